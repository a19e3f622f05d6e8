// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/checkpoint_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/load_rig.h"
#include "tests/loading/written_checkpoint.h"

namespace octet {
namespace {

using testing::HasSubstr;

MemorySource three_weights() {
  MemorySource source;
  source.add("q.weight", DType::kBF16, {70, 33});
  source.add("norm.weight", DType::kF32, {33});
  source.add("k.weight", DType::kF32, {7, 33});
  return source;
}

std::vector<std::byte> load(const std::filesystem::path& folder) {
  const Checkpoint checkpoint(folder);
  const CheckpointSource source(checkpoint);
  MemoryLedger ledger;
  ReferenceBackend backend(ledger, MatrixLayout::kLanes64, 2);
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"q.weight", 70}, {"k.weight", 7}}, 33, {.quantize = true});
  model.vector({{"norm.weight", 33}});
  WeightLoader(backend, model.parameters, {.drop_page_cache = true}).pull(source);
  std::vector<std::byte> bytes(matrix.matrix.view().data,
                               matrix.matrix.view().data + matrix.matrix.bytes() - 77 * 4);
  const auto* scales = reinterpret_cast<const std::byte*>(matrix.matrix.view().scales);
  bytes.insert(bytes.end(), scales, scales + 77 * 4);
  return bytes;
}

TEST(CheckpointSource, OneFileAndShardsLoadToTheSameBytes) {
  const MemorySource source = three_weights();
  const TempFolder single;
  write_file(single.path() / "model.safetensors", source, 0, 3);
  const TempFolder sharded;
  write_file(sharded.path() / "model-00001-of-00002.safetensors", source, 1, 3);
  write_file(sharded.path() / "model-00002-of-00002.safetensors", source, 0, 1);
  sharded.write(
      "model.safetensors.index.json",
      R"({"metadata": {}, "weight_map": {"q.weight": "model-00002-of-00002.safetensors",)"
      R"("norm.weight": "model-00001-of-00002.safetensors", "k.weight": "model-00001-of-00002.safetensors"}})");
  EXPECT_EQ(load(single.path()), load(sharded.path()));
}

TEST(CheckpointSource, PastThePageCacheAndThroughItTheSameWeightsArriveAsPlanned) {
  MemorySource source;
  std::vector<float> values(500 * 130);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01F * static_cast<float>(i % 977) - 3.0F;
  source.add("a.weight", DType::kBF16, {500, 130}, values);
  source.add("norm.weight", DType::kF32, {130});
  source.add("b.weight", DType::kF32, {500, 130}, values);
  const WrittenCheckpoint written(source);
  const CheckpointSource files(written.checkpoint);
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    std::vector<std::vector<std::byte>> loaded;
    for (const std::optional<bool> drop :
         {std::optional<bool>(), std::optional(true), std::optional(false)}) {
      Device device(MatrixLayout::kLanes64, 3);
      TestModel model;
      const StoredMatrix& matrix = model.matrix({{"a.weight", 500}, {"b.weight", 500}}, 130, rule);
      model.vector({{"norm.weight", 130}});
      const LoadReport report = device.load(model, files, {.drop_page_cache = drop, .tile_bytes = 20'000});
      EXPECT_EQ(report.peak_bytes, report.predicted_peak_bytes);
      EXPECT_EQ(device.ledger.current(), report.final_bytes);
      loaded.push_back(device.codes(matrix));
      const std::vector<float> scales = Device::scales(matrix);
      const auto bytes = std::as_bytes(std::span(scales));
      loaded.back().insert(loaded.back().end(), bytes.begin(), bytes.end());
    }
    EXPECT_EQ(loaded[0], loaded[2]);
    EXPECT_EQ(loaded[1], loaded[2]);
  }
}

TEST(CheckpointSource, AFileThatIsCutShortWhileItStreamsIsAnErrorThatNamesIt) {
  const MemorySource source = three_weights();
  const WrittenCheckpoint written(source);
  const CheckpointSource files(written.checkpoint);
  std::filesystem::resize_file(written.file, 2000);
  Device device(MatrixLayout::kLanes64, 2);
  TestModel model;
  model.matrix({{"q.weight", 70}, {"k.weight", 7}}, 33, {.quantize = true});
  EXPECT_THAT(refusal<FormatError>([&] { device.load(model, files, {.tile_bytes = 128}); }),
              HasSubstr("model.safetensors: the file is cut short"));
  EXPECT_EQ(device.ledger.current(), 0);
}

TEST(CheckpointSource, AnExtentGoesFromTheFirstByteOfABlockToItsLast) {
  const MemorySource source = three_weights();
  const WrittenCheckpoint written(source);
  const CheckpointSource from(written.checkpoint);
  for (const SourceTensor& tensor : from.tensors()) {
    const IndexRange rows = {.begin = 2, .end = 5};
    const IndexRange cols =
        tensor.name == "norm.weight" ? IndexRange{.begin = 0, .end = 1} : IndexRange{.begin = 3, .end = 33};
    const auto extent = from.extent(tensor, rows, cols);
    ASSERT_TRUE(extent);
    std::vector<std::byte> bytes(static_cast<size_t>(extent->length));
    extent->file->read_at(extent->offset, bytes);
    const auto row = static_cast<size_t>(tensor.bytes() / tensor.rows());
    const auto begin = 2 * row + static_cast<size_t>(cols.begin * dtype_size(tensor.dtype));
    const std::vector<std::byte>& all = source.bytes(tensor.name);
    ASSERT_EQ(bytes.size(), 5 * row - begin);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), all.begin() + static_cast<std::ptrdiff_t>(begin)));
  }
  EXPECT_THROW((void)from.extent(from.tensors().front(), {.begin = 69, .end = 71}, {.begin = 0, .end = 33}),
               ArgumentError);
}

TEST(CheckpointSource, NamesTheFileOfATensorInMessages) {
  const MemorySource source = three_weights();
  const WrittenCheckpoint written(source);
  const CheckpointSource from(written.checkpoint);
  MemoryLedger ledger;
  ReferenceBackend backend(ledger);
  TestModel model;
  model.matrix({{"q.weight", 71}}, 33, {});
  try {
    WeightLoader(backend, model.parameters, {}).pull(from);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("model.safetensors: tensor 'q.weight': expected shape [71, 33], found [70, 33]"));
    EXPECT_THAT(error.what(), HasSubstr(written.folder.path().string()));
  }
}

}  // namespace
}  // namespace octet
