// SPDX-License-Identifier: Apache-2.0
// Experts of every layout on disk end as the same bytes in memory, one by one.
#include "octet/loading/expert_source.h"

#include <gtest/gtest.h>

#include <numeric>

#include "octet/loading/checkpoint_source.h"
#include "tests/loading/load_rig.h"
#include "tests/loading/written_checkpoint.h"

namespace octet {
namespace {

constexpr int64_t kExperts = 3;
constexpr int64_t kInner = 10;   // I
constexpr int64_t kHidden = 12;  // H
const std::string kLayer = "model.layers.0.mlp.experts";

std::string name_of(int64_t expert, const std::string& member) {
  return kLayer + "." + std::to_string(expert) + "." + member + ".weight";
}

/// The destinations of one layer's experts: gate and up merged, and down.
struct Layer {
  TestModel model;
  std::vector<StoredMatrix*> gate_up;
  std::vector<StoredMatrix*> down;

  explicit Layer(const StorageRule& rule, int64_t experts = kExperts, int64_t inner = kInner,
                 int64_t hidden = kHidden) {
    for (int64_t e = 0; e < experts; ++e) {
      gate_up.push_back(
          &model.matrix({{name_of(e, "gate_proj"), inner}, {name_of(e, "up_proj"), inner}}, hidden, rule));
      down.push_back(&model.matrix({{name_of(e, "down_proj"), hidden}}, inner, rule));
      const ExpertPlace place{.experts = kLayer,
                              .fused = kLayer + ".gate_up_proj",
                              .index = e,
                              .count = experts,
                              .first_row = 0,
                              .rows = 2 * inner};
      Parameter* added = &model.parameters[model.parameters.size() - 3];
      added[0].expert = added[1].expert = added[2].expert = place;
      added[1].expert->first_row = inner;
      added[2].expert->fused = kLayer + ".down_proj";
      added[2].expert->rows = hidden;
    }
  }
};

using Matrix = std::vector<float>;  // row after row

Matrix transposed(const Matrix& x, int64_t rows, int64_t cols) {
  Matrix result(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c)
      result[static_cast<size_t>(c * rows + r)] = x[static_cast<size_t>(r * cols + c)];
  }
  return result;
}

void append(Matrix& to, const Matrix& more) {
  to.insert(to.end(), more.begin(), more.end());
}

enum class OnDisk { kSingle, kFused, kFusedWithSuffix, kTransposed };

std::unique_ptr<MemorySource> source_of(OnDisk layout, DType dtype, int64_t experts = kExperts,
                                        int64_t inner = kInner, int64_t hidden = kHidden) {
  auto source = std::make_unique<MemorySource>();
  Matrix gate_up;
  Matrix down;
  for (int64_t e = 0; e < experts; ++e) {
    const Matrix gate = normal_values(inner, hidden, static_cast<unsigned>(3 * e));
    const Matrix up = normal_values(inner, hidden, static_cast<unsigned>(3 * e + 1));
    const Matrix out = normal_values(hidden, inner, static_cast<unsigned>(3 * e + 2));
    if (layout == OnDisk::kSingle) {
      source->add(name_of(e, "gate_proj"), dtype, {inner, hidden}, gate);
      source->add(name_of(e, "up_proj"), dtype, {inner, hidden}, up);
      source->add(name_of(e, "down_proj"), dtype, {hidden, inner}, out);
    }
    Matrix both = gate;
    append(both, up);
    const bool turn = layout == OnDisk::kTransposed;
    append(gate_up, turn ? transposed(both, 2 * inner, hidden) : both);
    append(down, turn ? transposed(out, hidden, inner) : out);
  }
  if (layout == OnDisk::kSingle) return source;
  const std::string suffix = layout == OnDisk::kFusedWithSuffix ? ".weight" : "";
  const bool turn = layout == OnDisk::kTransposed;
  using Sizes = std::vector<int64_t>;
  source->add(kLayer + ".gate_up_proj" + suffix, dtype,
              turn ? Sizes{experts, hidden, 2 * inner} : Sizes{experts, 2 * inner, hidden}, gate_up);
  source->add(kLayer + ".down_proj" + suffix, dtype,
              turn ? Sizes{experts, inner, hidden} : Sizes{experts, hidden, inner}, down);
  return source;
}

struct Stored {
  std::vector<std::vector<std::byte>> codes;
  std::vector<std::vector<float>> scales;
  bool operator==(const Stored& other) const = default;
};

Stored load_from(std::unique_ptr<WeightSource> inner, const StorageRule& rule, int64_t tile_bytes) {
  Device device(MatrixLayout::kRowMajor, 2);
  Layer layer(rule);
  const ExpertSource source(std::move(inner), layer.model.parameters);
  LoadOptions options;
  options.tile_bytes = tile_bytes;
  device.load(layer.model, source, options);
  Stored stored;
  for (const auto& matrices : {layer.gate_up, layer.down}) {
    for (StoredMatrix* matrix : matrices) {
      stored.codes.push_back(device.codes(*matrix));
      stored.scales.push_back(Device::scales(*matrix));
    }
  }
  return stored;
}

Stored load(OnDisk layout, DType dtype, const StorageRule& rule, int64_t tile_bytes = 4 << 20) {
  return load_from(source_of(layout, dtype), rule, tile_bytes);
}

TEST(ExpertSource, FilesOfEveryLayoutGiveTheSameBytesForEveryRule) {
  std::vector<StorageRule> rules = all_rules();
  rules.emplace_back();
  for (const OnDisk layout :
       {OnDisk::kSingle, OnDisk::kFused, OnDisk::kFusedWithSuffix, OnDisk::kTransposed}) {
    const WrittenCheckpoint files(*source_of(layout, DType::kBF16));
    for (const StorageRule& rule : rules) {
      SCOPED_TRACE(describe(rule));
      const Stored expected = load(OnDisk::kSingle, DType::kBF16, rule);
      for (const int64_t tile_bytes : {64, 4 << 20}) {
        EXPECT_TRUE(load_from(std::make_unique<CheckpointSource>(files.checkpoint), rule, tile_bytes) ==
                    expected);
      }
    }
  }
}

TEST(ExpertSource, AnExtentInFileOrderThatIsAsLongAsItsBlockHoldsTheBlock) {
  for (const OnDisk layout : {OnDisk::kFused, OnDisk::kTransposed}) {
    const WrittenCheckpoint files(*source_of(layout, DType::kBF16));
    Layer layer({});
    const ExpertSource source(std::make_unique<CheckpointSource>(files.checkpoint), layer.model.parameters);
    int in_order = 0;
    for (const SourceTensor& tensor : source.tensors()) {
      const auto extent =
          source.extent(tensor, {.begin = 0, .end = tensor.rows()}, {.begin = 0, .end = tensor.cols()});
      ASSERT_TRUE(extent) << tensor.name;
      if (!source.in_file_order(tensor) || extent->length != tensor.bytes()) continue;
      std::vector<std::byte> there(static_cast<size_t>(tensor.bytes()));
      std::vector<std::byte> read(there.size());
      extent->file->read_at(extent->offset, there);
      source.read_rows(tensor, 0, tensor.rows(), read);
      EXPECT_EQ(there, read) << tensor.name;
      ++in_order;
    }
    // The two fused tensors themselves, and of each expert its parts where they are not transposed.
    EXPECT_EQ(in_order, layout == OnDisk::kFused ? 2 + 3 * kExperts : 2);
  }
}

TEST(ExpertSource, EveryLayoutOnDiskGivesTheSameBytesForEveryRule) {
  std::vector<StorageRule> rules = all_rules();
  rules.emplace_back();  // as it is in the file
  for (const StorageRule& rule : rules) {
    SCOPED_TRACE(describe(rule));
    const Stored expected = load(OnDisk::kSingle, DType::kBF16, rule);
    for (const OnDisk layout : {OnDisk::kFused, OnDisk::kFusedWithSuffix, OnDisk::kTransposed}) {
      EXPECT_TRUE(load(layout, DType::kBF16, rule) == expected);
      EXPECT_TRUE(load(layout, DType::kBF16, rule, 64) == expected);
    }
  }
  EXPECT_TRUE(load(OnDisk::kTransposed, DType::kF32, rules.back()) ==
              load(OnDisk::kSingle, DType::kF32, rules.back()));
}

TEST(ExpertSource, ReportsARowForEveryTensorOfTheFileAndEveryExpert) {
  Device device;
  Layer layer(rule_of(Granularity::kChannel));
  const ExpertSource source(source_of(OnDisk::kFused, DType::kBF16), layer.model.parameters);
  const LoadReport report = device.load(layer.model, source);
  ASSERT_EQ(report.weights.size(), 2U + 3U * kExperts);
  EXPECT_EQ(report.weights[0].name, kLayer + ".gate_up_proj");
  EXPECT_EQ(report.weights[0].use, TensorUse::kSplit);
  EXPECT_EQ(report.weights[1].name, name_of(0, "gate_proj"));
  EXPECT_EQ(report.weights[1].use, TensorUse::kWeight);
  EXPECT_TRUE(report.weights[1].quantized);
  EXPECT_EQ(report.weights[4].name, name_of(1, "up_proj"));
  EXPECT_TRUE(report.unused.empty());
  EXPECT_TRUE(report.missing.empty());
}

TEST(ExpertSource, RefusesAShapeThatDoesNotTellWhetherItIsTransposed) {
  const Layer square(StorageRule{}, kExperts, 12, 12);
  const std::string message = refusal<FormatError>([&] {
    const ExpertSource source(source_of(OnDisk::kFused, DType::kBF16, kExperts, 12, 12),
                              square.model.parameters);
  });
  EXPECT_EQ(message,
            "model: a.safetensors: tensor 'model.layers.0.mlp.experts.down_proj': shape [3, 12, 12] does not "
            "tell whether the experts' matrices are transposed; save the checkpoint with one tensor for each "
            "expert");
}

TEST(ExpertSource, RefusesAFusedTensorOfAnotherShape) {
  const Layer layer(StorageRule{});
  const std::string message = refusal<FormatError>([&] {
    const ExpertSource source(source_of(OnDisk::kFused, DType::kBF16, kExperts, 11), layer.model.parameters);
  });
  EXPECT_NE(message.find("gate_up_proj': expected shape [3, 20, 12], or transposed [3, 12, 20], found "
                         "[3, 22, 12]"),
            std::string::npos)
      << message;
}

TEST(ExpertSource, NamesBothNumbersOfExpertsWhereTheyDisagree) {
  for (const int64_t configured : {2, 4}) {
    const Layer layer(StorageRule{}, configured);
    const std::string single = refusal<FormatError>(
        [&] { const ExpertSource source(source_of(OnDisk::kSingle, DType::kBF16), layer.model.parameters); });
    EXPECT_EQ(single, "model: 'model.layers.0.mlp.experts': the configuration has " +
                          std::to_string(configured) + " experts, the files have 3 experts");
    const std::string fused = refusal<FormatError>(
        [&] { const ExpertSource source(source_of(OnDisk::kFused, DType::kBF16), layer.model.parameters); });
    EXPECT_NE(fused.find("gate_up_proj': the configuration has " + std::to_string(configured) +
                         " experts, the tensor has 3 experts"),
              std::string::npos)
        << fused;
  }
}

/// FP8 experts in one tensor, with one scale for each block of `block` rows and all columns, or for each
/// expert.
std::unique_ptr<MemorySource> fp8_source(int64_t inner, int64_t grid_rows) {
  auto source = std::make_unique<MemorySource>();
  const auto codes = [](int64_t rows, int64_t cols) { return normal_values(kExperts * rows, cols, 5); };
  source->add(kLayer + ".gate_up_proj", DType::kF8E4M3, {kExperts, 2 * inner, kHidden},
              codes(2 * inner, kHidden));
  source->add(kLayer + ".down_proj", DType::kF8E4M3, {kExperts, kHidden, inner}, codes(kHidden, inner));
  Matrix scales(static_cast<size_t>(kExperts * grid_rows));
  std::iota(scales.begin(), scales.end(), 1.0F);
  source->add(kLayer + ".gate_up_proj_scale_inv", DType::kF32, {kExperts, grid_rows, 1}, scales);
  source->add(kLayer + ".down_proj_scale_inv", DType::kF32, {kExperts, 1, 1}, Matrix{1.0F, 2.0F, 3.0F});
  return source;
}

TEST(ExpertSource, DividesTheScalesOfFusedFp8ExpertsAmongTheirMatrices) {
  Device device;
  Layer layer(StorageRule{}, kExperts, 128);
  const ExpertSource source(fp8_source(128, 2), layer.model.parameters);
  device.load(layer.model, source);
  const Matrix scales = Device::scales(*layer.gate_up[1]);  // of one block each, spread to its rows
  ASSERT_EQ(scales.size(), 256U);
  EXPECT_EQ(scales[127], 3.0F);
  EXPECT_EQ(scales[128], 4.0F);
  EXPECT_EQ(Device::scales(*layer.down[2]).front(), 3.0F);
}

TEST(ExpertSource, RefusesBlocksOfScalesThatReachFromGateIntoUp) {
  const Layer layer(StorageRule{}, kExperts, 100);
  const std::string message =
      refusal<FormatError>([&] { const ExpertSource source(fp8_source(100, 2), layer.model.parameters); });
  EXPECT_EQ(
      message,
      "model: a.safetensors: tensor 'model.layers.0.mlp.experts.gate_up_proj_scale_inv': scales of shape "
      "[3, 2, 1] cannot be divided among the matrices of 3 experts");
}

}  // namespace
}  // namespace octet
