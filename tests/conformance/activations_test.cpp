// SPDX-License-Identifier: Apache-2.0
/// Rows of tables, and activations quantized on the fly.
#include <cmath>
#include <optional>

#include "tests/conformance/compare.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/special_values.h"

namespace octet::conformance {
namespace {

class ActivationsConformance : public Conformance {
 protected:
  /// Compares codes and scales of x in both formats, with groups and without, rounded to bfloat16 and not.
  void expect_held(const Strided& x, std::optional<float> static_scale) {
    for (const DType format : {DType::kF8E4M3, DType::kF8E5M2}) {
      for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
        for (const int64_t group : {0, 128, 64}) {
          SCOPED_TRACE(std::string(to_string(format)) + ", groups of " + std::to_string(group) + ", [" +
                       std::to_string(x.rows()) + ", " + std::to_string(x.cols()) + "]" +
                       (precision == Precision::kBFloat16 ? ", bfloat16" : ", float32"));
          const QuantMatrix expected =
              make_matrix(memory(), activation_spec(format, x.rows(), x.cols(), group));
          const QuantMatrix actual = copy_matrix(memory(), expected);
          reference().quantize_activations(x.view(), precision, static_scale, expected.view());
          candidate().quantize_activations(x.view(), precision, static_scale, actual.view());
          expect_equal(expected, actual);
          for (int64_t i = 0; i < expected.spec().scale_count(); ++i) {
            EXPECT_EQ(expected.view().scales[i], actual.view().scales[i]) << "scale " << i;
          }
        }
      }
    }
  }
};

TEST_P(ActivationsConformance, QuantizesToTheSameCodesAndScales) {
  Random random(41);
  for (const int64_t tokens : {0, 1, 3, 17}) {
    for (const int64_t columns : {1, 5, 64, 127, 128, 129, 300, 1024}) {
      Strided x(memory(), tokens, columns, columns % 2 * 3);
      x.randomize(random, 3.0F);
      expect_held(x, std::nullopt);
    }
  }
}

TEST_P(ActivationsConformance, QuantizesWithAStaticScale) {
  Random random(42);
  Strided x(memory(), 5, 300, 1);
  x.randomize(random, 3.0F);
  sprinkle(x, 7);
  // Values whose quotient is a tie: dividing and multiplying by the reciprocal round them differently.
  for (int64_t k = 0; k < 256; ++k) {
    x.set(4, k, std::ldexp((static_cast<float>(8 + k % 8) + 0.5F) * 0.03F, static_cast<int>(k / 8 % 8) - 4));
  }
  for (const float scale : {0.013F, 0.03F, 0.0117F}) expect_held(x, scale);
}

TEST_P(ActivationsConformance, QuantizesZerosAndTinyAndHugeRows) {
  Random random(43);
  Strided x(memory(), 6, 260);
  x.randomize(random);
  constexpr std::array<float, 6> kMagnitudes = {0.0F, 0x1p-140F, 1e-12F, 1e-3F, 1e30F, 3e37F};
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t k = 0; k < x.cols(); ++k) x.set(t, k, x.get(t, k) * kMagnitudes[static_cast<size_t>(t)]);
  }
  expect_held(x, std::nullopt);
}

TEST_P(ActivationsConformance, QuantizesRowsWithNanAndInfinity) {
  Random random(44);
  Strided x(memory(), 4, 260);
  x.randomize(random);
  x.set(0, 3, std::numeric_limits<float>::quiet_NaN());
  x.set(1, 200, std::numeric_limits<float>::infinity());
  x.set(2, 259, -std::numeric_limits<float>::infinity());
  x.set(2, 0, std::numeric_limits<float>::quiet_NaN());
  expect_held(x, std::nullopt);
}

TEST_P(ActivationsConformance, EmbedsRowsOfEveryKindOfTable) {
  Random random(45);
  for (const WeightKind& kind : kWeightKinds) {
    for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
      for (const int64_t columns : {1, 67, 256}) {
        SCOPED_TRACE(to_string(kind) + (layout == MatrixLayout::kLanes64 ? ", lanes" : ", row-major"));
        const QuantMatrix table = make_matrix(memory(), weight_spec(kind, 130, columns, layout));
        randomize(table, random);
        const std::vector<int32_t> ids = {129, 0, 63, 64, 64, 1, 0, 77};
        for (const size_t count : {size_t{0}, size_t{1}, ids.size()}) {
          Strided expected(memory(), static_cast<int64_t>(count), columns, 2);
          Strided actual(memory(), static_cast<int64_t>(count), columns, 2);
          reference().embed(std::span(ids).first(count), table.view(), expected.view());
          candidate().embed(std::span(ids).first(count), table.view(), actual.view());
          expect_equal(expected, actual);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ActivationsConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
