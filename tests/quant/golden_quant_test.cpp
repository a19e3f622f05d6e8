// SPDX-License-Identifier: Apache-2.0
// Codes and scales that public packages wrote, held bit for bit through the way a weight really goes:
// abs_max, scale, quantize, on every instruction set of this machine and on the reference.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <memory>

#include "octet/backend/factory.h"
#include "octet/base/checked_math.h"
#include "octet/base/cpu_features.h"
#include "octet/base/file_reader.h"
#include "octet/base/json.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/quant/scales.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

const std::filesystem::path kFolder = source_dir() / "tests/golden/quant";

struct Candidate {
  std::string name;
  std::unique_ptr<Backend> backend;
};

std::vector<Candidate> candidates(MemoryLedger& ledger) {
  std::vector<Candidate> result;
  result.push_back({"reference", make_backend({.device = "reference", .threads = 1, .isa = {}}, ledger)});
  for (const CpuIsa isa : supported_isas()) {
    auto backend = make_backend({.device = "cpu", .threads = 1, .isa = isa}, ledger);
    result.push_back({backend->describe(), std::move(backend)});
  }
  return result;
}

/// The files of the golden folder, each opened once.
class Files {
 public:
  std::vector<std::byte> read(const std::string& file, const std::string& name, DType* dtype = nullptr) {
    auto& open = files_[file];
    if (open == nullptr) open = open_tensor_file(kFolder / file);
    for (const TensorInfo& info : open->tensors()) {
      if (info.name != name) continue;
      std::vector<std::byte> bytes(static_cast<size_t>(info.bytes));
      open->read(info, 0, bytes);
      if (dtype != nullptr) *dtype = info.dtype;
      return bytes;
    }
    throw FormatError(file + " lacks " + name);
  }

 private:
  std::map<std::string, std::unique_ptr<TensorFile>> files_;
};

struct Case {
  int64_t rows = 0;
  int64_t cols = 0;
  bool raw = false;
  ScaleRule rule;
};

Granularity granularity_of(const std::string& name) {
  if (name == "per_tensor") return Granularity::kTensor;
  return name == "per_block" ? Granularity::kBlock : Granularity::kChannel;
}

Case case_of(const Json& json, DType source) {
  const bool raw = json["granularity"] == "raw_cast";
  return {.rows = json["shape"][0],
          .cols = json["shape"][1],
          .raw = raw,
          .rule = {.numerics = json["profile"] == "compressed-tensors" ? NumericsProfile::kCompressedTensors
                                                                       : NumericsProfile::kVllm,
                   .granularity = granularity_of(json["granularity"]),
                   .format = json["format"] == "e4m3" ? DType::kF8E4M3 : DType::kF8E5M2,
                   .source = source}};
}

QuantMatrix make_matrix(const Case& c, Backend& backend) {
  MatrixSpec spec{.dtype = c.rule.format,
                  .rows = c.rows,
                  .cols = c.cols,
                  .layout = backend.weight_layout(),
                  .scale_kind = c.raw ? ScaleKind::kNone : ScaleKind::kRow,
                  .parts = {}};
  if (!c.raw && c.rule.granularity == Granularity::kBlock) {
    spec.scale_kind = ScaleKind::kGrid;
    append_scale_part(spec.parts, c.rows, c.cols, kScaleBlock, kScaleBlock);
  }
  return {backend.allocator(), backend.ledger(), "test", std::move(spec)};
}

void set_scales(const Case& c, ConstTensorView x, Backend& backend, const QuantMatrixView& w) {
  const bool grid = w.scale_kind == ScaleKind::kGrid;
  const int64_t segment = grid ? kScaleBlock : c.cols;
  const int64_t runs = ceil_div(c.cols, segment);
  std::vector<float> amax(static_cast<size_t>(c.rows * runs));
  backend.abs_max(x, segment, segment, view_of(amax.data(), Shape{c.rows, runs}));
  const auto at = [&](int64_t row, int64_t run) -> float& {
    return amax[static_cast<size_t>(row * runs + run)];
  };
  const int64_t band = grid ? kScaleBlock : c.rule.granularity == Granularity::kTensor ? c.rows : 1;
  for (int64_t row = 0; row < c.rows; ++row) {
    for (int64_t run = 0; run < runs; ++run) {
      float most = 0;
      for (int64_t r = row / band * band; r < std::min(c.rows, (row / band + 1) * band); ++r)
        most = std::max(most, at(r, run));
      const float scale = scale_from_amax(most, c.rule);
      w.scales[grid ? w.parts[0].index(row, run * kScaleBlock) : row] = scale;
    }
  }
}

/// Scales as the golden file has them: one, one per row, or the grid.
std::vector<std::byte> scale_bytes(const Case& c, const QuantMatrixView& w, size_t bytes) {
  std::vector<std::byte> result(bytes);
  const size_t held = static_cast<size_t>(w.scale_kind == ScaleKind::kGrid
                                              ? ceil_div(c.rows, kScaleBlock) * ceil_div(c.cols, kScaleBlock)
                                              : c.rows) *
                      sizeof(float);
  std::memcpy(result.data(), w.scales, std::min(bytes, held));
  return result;
}

TEST(GoldenQuant, EveryBackendWritesTheCodesAndScalesOfThePublicPackages) {
  const Json manifest = parse_json(read_text_file(kFolder / "manifest.json"), "manifest.json");
  const std::string inputs = manifest["inputs"];
  if (!std::filesystem::exists(kFolder / inputs))
    FAIL() << "tests/golden/quant/" << inputs << " is not there";
  MemoryLedger ledger;
  const auto backends = candidates(ledger);
  Files files;
  int compared = 0;
  for (const Json& json : manifest["cases"]) {
    const std::string granularity = json["granularity"];
    if (granularity == "per_token_group" || granularity == "per_token")
      continue;  // quantize_activations' own tests
    DType source = DType::kF32;
    const auto input = files.read(inputs, json["input"], &source);
    const Case c = case_of(json, source);
    const auto codes = files.read(json["file"], json["prefix"].get<std::string>() + ".codes");
    const auto scales = c.raw ? std::vector<std::byte>()
                              : files.read(json["file"], json["prefix"].get<std::string>() + ".scales");
    const ConstTensorView x(input.data(), source, Shape{c.rows, c.cols});
    for (const Candidate& candidate : backends) {
      SCOPED_TRACE(candidate.name + ", " + json["file"].get<std::string>() + ", " +
                   json["prefix"].get<std::string>());
      const QuantMatrix matrix = make_matrix(c, *candidate.backend);
      const QuantMatrixView w = matrix.view();
      if (!c.raw) set_scales(c, x, *candidate.backend, w);
      QuantizeStats stats;
      candidate.backend->quantize(x, w, {}, c.raw ? raw_cast_rule() : quantize_rule(c.rule), &stats);
      std::vector<std::byte> stored(codes.size());
      candidate.backend->read_rows(w, 0, {stored.data(), c.rule.format, Shape{c.rows, c.cols}});
      EXPECT_EQ(stored, codes);
      ++compared;
      if (c.raw) continue;
      EXPECT_EQ(scale_bytes(c, w, scales.size()), scales);
    }
  }
  EXPECT_GT(compared, 100);
}

}  // namespace
}  // namespace octet
