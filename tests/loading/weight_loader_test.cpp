// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "octet/backend/reference/reference_backend.h"
#include "octet/base/checked_math.h"
#include "tests/loading/load_rig.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

float rounded(float value, DType dtype) {
  return visit_float(dtype, [&]<class T>() { return to_float(from_float<T>(value)); });
}

/// The rules of docs/number_formats.md once more, one element at a time.
struct Expected {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

uint8_t code_of(float quotient, DType format, bool nan_saturates) {
  if (std::isnan(quotient) && nan_saturates) quotient = max_finite(format);
  return format == DType::kF8E4M3 ? to_float8_e4m3(quotient).bits : to_float8_e5m2(quotient).bits;
}

float expected_scale(float amax, const StorageRule& rule, DType source) {
  const float max = max_finite(rule.format);
  if (rule.numerics == kPackage) {
    const float scale = rounded(amax / max, source);
    if (scale != 0) return scale;
    return source == DType::kBF16 ? 0x1p-7F : source == DType::kF16 ? 0x1p-10F : 0x1p-23F;
  }
  if (rule.granularity == Granularity::kTensor) return amax / max;
  if (rule.granularity == Granularity::kChannel)
    return std::max(amax / max, static_cast<float>(1.0 / (512.0 * max)));
  return std::max(amax, 1e-4F) / max;
}

float expected_quotient(float x, float scale, const StorageRule& rule, DType source) {
  if (rule.numerics == kPackage) return rounded(x / scale, source);
  return rule.granularity == Granularity::kChannel ? x / scale : x * (1.0F / scale);
}

Expected expect(const std::vector<float>& x, int64_t rows, int64_t cols, const StorageRule& rule,
                DType source) {
  Expected result;
  const int64_t block_rows = rule.granularity == Granularity::kTensor    ? rows
                             : rule.granularity == Granularity::kChannel ? 1
                                                                         : 128;
  const int64_t block_cols = rule.granularity == Granularity::kBlock ? 128 : cols;
  const int64_t grid_cols = ceil_div(cols, block_cols);
  std::vector<float> amax(static_cast<size_t>(ceil_div(rows, block_rows) * grid_cols));
  const auto block = [&](int64_t i) {
    return static_cast<size_t>(i / cols / block_rows * grid_cols + i % cols / block_cols);
  };
  for (int64_t i = 0; i < rows * cols; ++i) {
    amax[block(i)] = std::max(amax[block(i)], std::fabs(x[static_cast<size_t>(i)]));
  }
  for (int64_t i = 0; i < rows * cols; ++i) {
    const float value = x[static_cast<size_t>(i)];
    const float scale = expected_scale(amax[block(i)], rule, source);
    const float quotient = rule.raw_cast ? value : expected_quotient(value, scale, rule, source);
    const bool saturates =
        !rule.raw_cast && rule.numerics == kVllm && rule.granularity == Granularity::kTensor;
    result.codes.push_back(code_of(quotient, rule.format, saturates));
  }
  if (rule.raw_cast) return result;
  for (const float most : amax) result.scales.push_back(expected_scale(most, rule, source));
  if (rule.granularity == Granularity::kTensor)
    result.scales.assign(static_cast<size_t>(rows), result.scales[0]);
  return result;
}

std::vector<uint8_t> as_codes(const std::vector<std::byte>& bytes) {
  std::vector<uint8_t> codes;
  for (const std::byte byte : bytes) codes.push_back(std::to_integer<uint8_t>(byte));
  return codes;
}

TEST(WeightLoader, StoresEveryGranularityFormatAndProfileAsTheRuleForOneElementSays) {
  constexpr int64_t kRows = 131;
  constexpr int64_t kCols = 203;
  for (const DType source_dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    MemorySource source;
    auto values = normal_values(kRows, kCols, 1);
    std::fill_n(values.begin(), kCols, 0.0F);  // a row of zeros
    values[kCols] = -0.0F;
    source.add("w.weight", source_dtype, {kRows, kCols}, values);
    for (const StorageRule& rule : all_rules()) {
      for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
        SCOPED_TRACE(describe(rule) + " from " + std::string(to_string(source_dtype)));
        Device device(layout);
        TestModel model;
        const StoredMatrix& matrix = model.matrix({{"w.weight", kRows}}, kCols, rule);
        device.load(model, source);
        const Expected expected =
            expect(source.floats("w.weight", source_dtype), kRows, kCols, rule, source_dtype);
        EXPECT_EQ(as_codes(device.codes(matrix)), expected.codes);
        EXPECT_EQ(Device::scales(matrix), expected.scales);
        EXPECT_EQ(matrix.matrix.spec().layout, layout);
      }
    }
  }
}

TEST(WeightLoader, AnAllZeroTensorPerTensorHasScaleZeroAndReadsBackAsZero) {
  MemorySource source;
  source.add("w.weight", DType::kBF16, {2, 3}, std::vector<float>(6, 0.0F));
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"w.weight", 2}}, 3, rule_of(Granularity::kTensor));
  device.load(model, source);
  EXPECT_THAT(Device::scales(matrix), ElementsAre(0.0F, 0.0F));
  std::vector<float> back(6, 1.0F);
  device.backend.read_rows(matrix.matrix.view(), 0, view_of(back.data(), Shape{2, 3}));
  EXPECT_EQ(back, std::vector<float>(6, 0.0F));
}

TEST(WeightLoader, MergingChangesNoCodeAndNoScale) {
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    MemorySource source;
    source.add("up.weight", DType::kBF16, {70, 150});
    source.add("q.weight", DType::kBF16, {131, 150});
    source.add("gate.weight", DType::kBF16, {9, 150});
    Device device;
    TestModel merged;
    TestModel apart;
    const StoredMatrix& whole =
        merged.matrix({{"q.weight", 131}, {"gate.weight", 9}, {"up.weight", 70}}, 150, rule);
    const StoredMatrix* parts[] = {&apart.matrix({{"q.weight", 131}}, 150, rule),
                                   &apart.matrix({{"gate.weight", 9}}, 150, rule),
                                   &apart.matrix({{"up.weight", 70}}, 150, rule)};
    device.load(merged, source);
    device.load(apart, source);
    std::vector<std::byte> codes;
    std::vector<float> scales;
    for (const StoredMatrix* part : parts) {
      const auto part_codes = device.codes(*part);
      const auto part_scales = Device::scales(*part);
      codes.insert(codes.end(), part_codes.begin(), part_codes.end());
      scales.insert(scales.end(), part_scales.begin(), part_scales.end());
    }
    EXPECT_EQ(device.codes(whole), codes);
    EXPECT_EQ(Device::scales(whole), scales);
  }
}

TEST(WeightLoader, BytesDependNeitherOnThreadsNorOnTilesNorOnTheOrderOfTheFile) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {140, 130});
  source.add("norm.weight", DType::kF32, {1021});
  source.add("b.weight", DType::kF32, {5, 130});
  const MemorySource reversed = source.reversed();
  for (const StorageRule& rule : all_rules()) {
    SCOPED_TRACE(describe(rule));
    std::vector<std::byte> codes;
    std::vector<float> scales;
    for (const int threads : {1, 2, 5}) {
      for (const int64_t tile_bytes : {1, 700, 40'000}) {
        Device device(MatrixLayout::kLanes64, threads);
        TestModel model;
        const StoredMatrix& matrix = model.matrix({{"a.weight", 140}, {"b.weight", 5}}, 130, rule);
        const StoredVector& vector = model.vector({{"norm.weight", 1021}});
        const MemorySource& from = tile_bytes == 700 ? reversed : source;
        const LoadReport report =
            device.load(model, from, {.compute_dtype = DType::kF32, .tile_bytes = tile_bytes});
        if (codes.empty()) {
          codes = device.codes(matrix);
          scales = Device::scales(matrix);
        }
        EXPECT_EQ(device.codes(matrix), codes);
        EXPECT_EQ(Device::scales(matrix), scales);
        EXPECT_EQ(std::memcmp(vector.tensor.view().data(), source.bytes("norm.weight").data(), 1021 * 4), 0);
        EXPECT_EQ(report.final_bytes, report.predicted_final_bytes);
        EXPECT_EQ(report.peak_bytes, report.predicted_peak_bytes);
      }
    }
  }
}

TEST(WeightLoader, UnquantizedWeightsKeepTheirDtypeWhereItWidensExactlyAndAreRoundedOnceElsewhere) {
  struct Row {
    DType file, compute, stored;
  };
  const Row rows[] = {{DType::kBF16, DType::kBF16, DType::kBF16}, {DType::kF16, DType::kBF16, DType::kBF16},
                      {DType::kF32, DType::kBF16, DType::kBF16},  {DType::kBF16, DType::kF16, DType::kF16},
                      {DType::kF16, DType::kF16, DType::kF16},    {DType::kF32, DType::kF16, DType::kF16},
                      {DType::kBF16, DType::kF32, DType::kBF16},  {DType::kF16, DType::kF32, DType::kF16},
                      {DType::kF32, DType::kF32, DType::kF32}};
  for (const Row& row : rows) {
    SCOPED_TRACE(std::string(to_string(row.file)) + " to " + std::string(to_string(row.compute)));
    MemorySource source;
    source.add("w.weight", row.file, {7, 13});
    source.add("bias", row.file, {13});
    Device device(MatrixLayout::kLanes64);
    TestModel model;
    const StoredMatrix& matrix = model.matrix({{"w.weight", 7}}, 13, {});
    const StoredVector& vector = model.vector({{"bias", 13}});
    device.load(model, source, {.compute_dtype = row.compute});
    EXPECT_EQ(matrix.matrix.spec().dtype, row.stored);
    EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kNone);
    EXPECT_EQ(device.codes(matrix), bytes_of(row.stored, source.floats("w.weight", row.file)));
    EXPECT_EQ(vector.tensor.dtype(), row.stored);
    const auto bias = bytes_of(row.stored, source.floats("bias", row.file));
    EXPECT_EQ(std::memcmp(vector.tensor.view().data(), bias.data(), bias.size()), 0);
  }
}

TEST(WeightLoader, MembersOfDifferentRealDtypesTakeTheComputeDtype) {
  MemorySource source;
  source.add("q.weight", DType::kF16, {2, 3});
  source.add("k.weight", DType::kBF16, {2, 3});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"q.weight", 2}, {"k.weight", 2}}, 3, {});
  device.load(model, source, {.compute_dtype = DType::kF32});
  EXPECT_EQ(matrix.matrix.spec().dtype, DType::kF32);
}

TEST(WeightLoader, ATableThatIsOnlyLookedUpIsRowMajor) {
  MemorySource source;
  source.add("embed.weight", DType::kBF16, {3, 5});
  Device device(MatrixLayout::kLanes64);
  TestModel model;
  StoredMatrix& matrix = model.matrix({{"embed.weight", 3}}, 5, {});
  matrix.lookup_only = true;
  device.load(model, source);
  EXPECT_EQ(matrix.matrix.spec().layout, MatrixLayout::kRowMajor);
}

TEST(WeightLoader, RefusesAValueBeyondTheComputeDtype) {
  MemorySource source;
  source.add("w.weight", DType::kF32, {1, 2}, {1.0F, 70000.0F});
  Device device;
  TestModel model;
  model.matrix({{"w.weight", 1}}, 2, {});
  EXPECT_THAT(refusal<FormatError>([&] { device.load(model, source, {.compute_dtype = DType::kF16}); }),
              AllOf(HasSubstr("tensor 'w.weight': holds values beyond the range of F16"),
                    HasSubstr("--dtype bfloat16")));
  EXPECT_EQ(device.ledger.current(), 0);
}

TEST(WeightLoader, WeightsThatAreNotQuantizedMayHoldInfinity) {
  MemorySource source;
  source.add("w.weight", DType::kBF16, {1, 2}, {1.0F, std::numeric_limits<float>::infinity()});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"w.weight", 1}}, 2, {});
  device.load(model, source);
  EXPECT_EQ(device.codes(matrix), source.bytes("w.weight"));
}

TEST(WeightLoader, ATwinIsReadInThePlaceOfAnAbsentName) {
  MemorySource source;
  source.add("lm_head.weight", DType::kBF16, {3, 5});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"embed.weight", 3}}, 5, {});
  model.parameters[0].twin = "lm_head.weight";
  const LoadReport report = device.load(model, source);
  EXPECT_EQ(device.codes(matrix), source.bytes("lm_head.weight"));
  EXPECT_THAT(report.unused, IsEmpty());
  EXPECT_THAT(report.twins, IsEmpty());
}

TEST(WeightLoader, EqualTwinsAreComparedInSilence) {
  MemorySource source;
  source.add("embed.weight", DType::kBF16, {300, 5});
  source.add("lm_head.weight", DType::kBF16, {300, 5}, source.floats("embed.weight", DType::kBF16));
  Device device;
  TestModel model;
  model.matrix({{"embed.weight", 300}}, 5, {});
  model.parameters[0].twin = "lm_head.weight";
  std::vector<std::string> warnings;
  const LoadReport report =
      device.load(model, source, {.tile_bytes = 64, .warn = [&](const auto& w) { warnings.push_back(w); }});
  ASSERT_EQ(report.twins.size(), 1U);
  EXPECT_EQ(report.twins[0].differing, 0);
  EXPECT_EQ(report.weights[1].use, TensorUse::kTwin);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(WeightLoader, DifferingTwinsAreCountedAndToldOf) {
  MemorySource source;
  source.add("embed.weight", DType::kBF16, {2, 3}, {1, 2, 3, 4, 5, 6});
  source.add("lm_head.weight", DType::kF32, {2, 3}, {1, 2, 3.5F, 4, 5, 4});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"embed.weight", 2}}, 3, {});
  model.parameters[0].twin = "lm_head.weight";
  std::vector<std::string> warnings;
  const LoadReport report =
      device.load(model, source, {.tile_bytes = 1, .warn = [&](const auto& w) { warnings.push_back(w); }});
  ASSERT_EQ(report.twins.size(), 1U);
  EXPECT_EQ(report.twins[0].differing, 2);
  EXPECT_EQ(report.twins[0].max_abs_difference, 2.0);
  EXPECT_THAT(warnings,
              ElementsAre(HasSubstr(
                  "'embed.weight' and 'lm_head.weight' are one table in this model but differ in 2")));
  EXPECT_EQ(device.codes(matrix), source.bytes("embed.weight"));
}

TEST(WeightLoader, ATwinOfAnotherShapeIsToldOfAndLeftAlone) {
  MemorySource source;
  source.add("embed.weight", DType::kBF16, {2, 3});
  source.add("lm_head.weight", DType::kBF16, {3, 3});
  Device device;
  TestModel model;
  model.matrix({{"embed.weight", 2}}, 3, {});
  model.parameters[0].twin = "lm_head.weight";
  std::vector<std::string> warnings;
  const LoadReport report =
      device.load(model, source, {.warn = [&](const auto& w) { warnings.push_back(w); }});
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("shape [3, 3] instead of [2, 3]")));
  EXPECT_THAT(report.twins, IsEmpty());
}

TEST(WeightLoader, TellsOfUnusedTensorsAndPassesOverKnownOnes) {
  MemorySource source;
  source.add("a.weight", DType::kBF16, {3, 5});
  source.add("stranger", DType::kBF16, {2});
  source.add("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {4});
  Device device;
  TestModel model;
  model.matrix({{"a.weight", 3}}, 5, {});
  std::vector<std::string> warnings;
  const LoadReport report =
      device.load(model, source, {.warn = [&](const auto& w) { warnings.push_back(w); }});
  EXPECT_THAT(report.unused, ElementsAre("stranger"));
  EXPECT_THAT(warnings, ElementsAre("1 tensors of the checkpoint are not used: 'stranger'"));
  EXPECT_EQ(report.weights[2].use, TensorUse::kSkipped);
}

TEST(WeightLoader, WarnsOfARawCastThatUnderflows) {
  MemorySource source;
  source.add("tiny.weight", DType::kBF16, {1, 4}, {0.0001F, 0.0002F, 0.0001F, 0.9F});
  Device device;
  TestModel model;
  model.matrix({{"tiny.weight", 1}}, 4, {.quantize = true, .raw_cast = true});
  std::vector<std::string> warnings;
  const LoadReport report =
      device.load(model, source, {.warn = [&](const auto& w) { warnings.push_back(w); }});
  EXPECT_EQ(report.weights[0].stats.zeroed, 3);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("the raw cast underflows in 1 of 1 quantized weights")));
}

TEST(WeightLoader, CountsWhatARawCastSaturates) {
  MemorySource source;
  source.add("w.weight", DType::kF32, {1, 4}, {500.0F, -1000.0F, 448.0F, 1.0F});
  Device device;
  TestModel model;
  const StoredMatrix& matrix = model.matrix({{"w.weight", 1}}, 4, {.quantize = true, .raw_cast = true});
  const LoadReport report = device.load(model, source);
  EXPECT_EQ(report.weights[0].stats.saturated, 2);
  EXPECT_EQ(as_codes(device.codes(matrix)), (std::vector<uint8_t>{0x7E, 0xFE, 0x7E, 0x38}));
}

}  // namespace
}  // namespace octet
