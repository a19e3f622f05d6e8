// SPDX-License-Identifier: Apache-2.0
/// Norms, sums, activations and rotations.
#include <cmath>

#include "tests/conformance/compare.h"
#include "tests/conformance/conformance.h"

namespace octet::conformance {
namespace {

constexpr std::array<int64_t, 4> kTokenCounts = {0, 1, 3, 70};
constexpr std::array<int64_t, 6> kWidths = {1, 15, 16, 64, 67, 1031};

class ElementwiseConformance : public Conformance {};

/// |y| times this many roundings: the bound of an operation without cancellation. `least` bounds what may
/// underflow.
Strided relative_bound(Memory& memory, const Strided& y, double roundings, float least = 0.0F) {
  Strided bound = y.copy(memory);
  bound.transform([&](float v) {
    return static_cast<float>(gamma(roundings) * std::fabs(static_cast<double>(v))) + least;
  });
  return bound;
}

TEST_P(ElementwiseConformance, NormalizesRowsAndHeads) {
  Random random(51);
  for (const int64_t tokens : kTokenCounts) {
    for (const int64_t dim : kWidths) {
      for (const int64_t runs : {1, 3}) {
        const DType dtype =
            std::array{DType::kF32, DType::kF16, DType::kBF16}[static_cast<size_t>(dim + runs) % 3];
        SCOPED_TRACE("[" + std::to_string(tokens) + ", " + std::to_string(runs) + " * " +
                     std::to_string(dim) + "], weight " + std::string(to_string(dtype)));
        Strided x(memory(), tokens, runs * dim, 5);
        x.randomize(random, 30.0F);
        Strided weight(memory(), dtype, 1, dim);
        weight.randomize(random);
        const ConstTensorView w(weight.view().data(), dtype, Shape{dim});
        Strided expected(memory(), tokens, runs * dim);
        Strided actual(memory(), tokens, runs * dim, 2);
        reference().rms_norm(x.view(), w, 1e-5F, expected.view());
        candidate().rms_norm(x.view(), w, 1e-5F, actual.view());
        // The sum of squares counts half under the root; then a root, a division and two products.
        expect_within(expected, actual,
                      relative_bound(memory(), expected, static_cast<double>(dim + 2) / 2 + 8));
        candidate().rms_norm(x.view(), w, 1e-5F, x.view());
        expect_same_bits(actual, x);
      }
    }
  }
}

TEST_P(ElementwiseConformance, NormalizesZerosAndSmallValuesByEpsilon) {
  Strided x(memory(), 2, 128);
  for (int64_t i = 0; i < 128; ++i) x.set(1, i, 1e-6F * static_cast<float>(i - 64));
  Strided weight(memory(), 1, 128);
  weight.transform([](float) { return 1.5F; });
  Strided expected(memory(), 2, 128);
  Strided actual(memory(), 2, 128);
  reference().rms_norm(x.view(), weight.view(), 1e-6F, expected.view());
  candidate().rms_norm(x.view(), weight.view(), 1e-6F, actual.view());
  expect_within(expected, actual, relative_bound(memory(), expected, 128 + 10));
  for (int64_t i = 0; i < 128; ++i) EXPECT_EQ(actual.get(0, i), 0.0F);
}

TEST_P(ElementwiseConformance, KeepsTheNanOfARowInTheNorm) {
  Strided x(memory(), 3, 96);
  x.transform([](float) { return 2.0F; });
  x.set(1, 95, std::numeric_limits<float>::quiet_NaN());
  Strided weight(memory(), 1, 96);
  weight.transform([](float) { return 1.0F; });
  Strided y(memory(), 3, 96);
  candidate().rms_norm(x.view(), weight.view(), 0.0F, y.view());
  for (int64_t i = 0; i < 96; ++i) {
    EXPECT_EQ(y.get(0, i), 1.0F);
    EXPECT_TRUE(std::isnan(y.get(1, i)));
    EXPECT_EQ(y.get(2, i), 1.0F);
  }
}

TEST_P(ElementwiseConformance, CentersAndNormalizesRows) {
  Random random(61);
  for (const int64_t tokens : kTokenCounts) {
    for (const int64_t dim : kWidths) {
      for (const bool affine : {true, false}) {
        const DType dtype = std::array{DType::kF32, DType::kF16, DType::kBF16}[static_cast<size_t>(dim) % 3];
        SCOPED_TRACE("[" + std::to_string(tokens) + ", " + std::to_string(dim) + "], weight " +
                     (affine ? std::string(to_string(dtype)) : "none"));
        Strided x(memory(), tokens, dim, 5);
        x.randomize(random, 2.0F);
        x.transform([](float v) { return v + 50.0F; });  // a mean that is large beside the deviation
        Strided weight(memory(), dtype, 1, dim);
        Strided bias(memory(), DType::kF16, 1, dim);
        weight.randomize(random);
        bias.randomize(random);
        NormParameters parameters;
        if (affine) {
          parameters = {.weight = ConstTensorView(weight.view().data(), dtype, Shape{dim}),
                        .bias = ConstTensorView(bias.view().data(), DType::kF16, Shape{dim})};
        }
        Strided expected(memory(), tokens, dim);
        Strided actual(memory(), tokens, dim, 2);
        reference().layer_norm(x.view(), parameters, 1e-5F, expected.view());
        candidate().layer_norm(x.view(), parameters, 1e-5F, actual.view());
        // Two differences, a root, a division and two products, then a sum with the bias.
        Strided bound = expected.copy(memory());
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t i = 0; i < dim; ++i) {
            const double shift = affine ? std::fabs(static_cast<double>(bias.get(0, i))) : 0.0;
            const double size = std::fabs(static_cast<double>(expected.get(t, i))) + 2 * shift;
            bound.set(t, i, static_cast<float>(gamma(10) * size) + 1e-12F);
          }
        }
        expect_within(expected, actual, bound);
        candidate().layer_norm(x.view(), parameters, 1e-5F, x.view());
        expect_same_bits(actual, x);
      }
    }
  }
}

TEST_P(ElementwiseConformance, CutsNegativeValuesAndKeepsNan) {
  Random random(62);
  for (const int64_t tokens : kTokenCounts) {
    for (const int64_t width : kWidths) {
      Strided expected(memory(), tokens, width, 3);
      expected.randomize(random);
      if (tokens > 0) expected.set(tokens - 1, width - 1, std::numeric_limits<float>::quiet_NaN());
      Strided actual = expected.copy(memory(), 3);
      reference().relu(expected.view());
      candidate().relu(actual.view());
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t i = 0; i < width; ++i) {
          const bool last = t == tokens - 1 && i == width - 1;
          EXPECT_EQ(std::isnan(actual.get(t, i)), last);
          if (last) continue;
          EXPECT_EQ(actual.get(t, i), expected.get(t, i));
          EXPECT_GE(actual.get(t, i), 0.0F);
        }
      }
    }
  }
}

TEST_P(ElementwiseConformance, AddsToTheBit) {
  Random random(52);
  for (const int64_t tokens : kTokenCounts) {
    for (const int64_t width : kWidths) {
      Strided x(memory(), tokens, width, 1);
      Strided expected(memory(), tokens, width, 3);
      x.randomize(random, 100.0F);
      expected.randomize(random);
      Strided actual = expected.copy(memory(), 3);
      reference().add(x.view(), expected.view());
      candidate().add(x.view(), actual.view());
      expect_equal(expected, actual);
    }
  }
}

TEST_P(ElementwiseConformance, GatesWithSilu) {
  Random random(53);
  for (const int64_t tokens : kTokenCounts) {
    for (const int64_t width : kWidths) {
      SCOPED_TRACE("[" + std::to_string(tokens) + ", 2 * " + std::to_string(width) + "]");
      Strided gate_up(memory(), tokens, 2 * width, 1);
      gate_up.randomize(random, 8.0F);
      Strided expected(memory(), tokens, width);
      Strided actual(memory(), tokens, width, 2);
      reference().silu_mul(gate_up.view(), expected.view());
      candidate().silu_mul(gate_up.view(), actual.view());
      expect_within(expected, actual, relative_bound(memory(), expected, 8));
    }
  }
}

TEST_P(ElementwiseConformance, GatesLargeValuesOfBothSigns) {
  // Beyond about 87 the exponential of float32 ends, so a gate below -87 may become zero: at most 2^-115 of
  // `up`.
  constexpr std::array<float, 14> kGates = {0.0F,   -0.0F, 1e-30F, -1e-30F, 20.0F,    -20.0F, 80.0F,
                                            -80.0F, 90.0F, -90.0F, 1000.0F, -1000.0F, 1e30F,  -1e30F};
  Strided gate_up(memory(), 1, 28);
  for (int64_t i = 0; i < 14; ++i) {
    gate_up.set(0, i, kGates[static_cast<size_t>(i)]);
    gate_up.set(0, 14 + i, -3.0F);
  }
  Strided expected(memory(), 1, 14);
  Strided actual(memory(), 1, 14);
  reference().silu_mul(gate_up.view(), expected.view());
  candidate().silu_mul(gate_up.view(), actual.view());
  expect_within(expected, actual, relative_bound(memory(), expected, 8, 0x1p-113F));
}

TEST_P(ElementwiseConformance, GivesARowTheSameBitsAloneAndAmongOthers) {
  Random random(54);
  Strided x(memory(), 37, 134);
  x.randomize(random, 5.0F);
  Strided weight(memory(), 1, 67);
  weight.randomize(random);
  Strided norms(memory(), 37, 134);
  Strided gated(memory(), 37, 67);
  candidate().rms_norm(x.view(), weight.view(), 1e-5F, norms.view());
  candidate().silu_mul(x.view(), gated.view());
  for (const int64_t row : {0, 1, 36}) {
    Strided norm(memory(), 1, 134);
    Strided gate(memory(), 1, 67);
    candidate().rms_norm(x.view().slice_rows(row, row + 1), weight.view(), 1e-5F, norm.view());
    candidate().silu_mul(x.view().slice_rows(row, row + 1), gate.view());
    expect_same_bits(norms, norm, row);
    expect_same_bits(gated, gate, row);
  }
}

struct RopeCase {
  int64_t heads, head_dim, rotated;
};

TEST_P(ElementwiseConformance, RotatesTheFirstColumnsOfEveryHead) {
  Random random(55);
  for (const RopeCase what :
       {RopeCase{1, 2, 2}, {3, 8, 8}, {2, 40, 40}, {5, 80, 32}, {4, 64, 64}, {1, 128, 64}, {2, 256, 256}}) {
    for (const RopeStyle style : {RopeStyle::kHalfSplit, RopeStyle::kInterleaved}) {
      for (const int64_t tokens : {0, 1, 9}) {
        SCOPED_TRACE(std::to_string(what.heads) + " heads of " + std::to_string(what.head_dim) +
                     ", rotated " + std::to_string(what.rotated) +
                     (style == RopeStyle::kHalfSplit ? ", halves" : ", interleaved"));
        Strided expected(memory(), tokens, what.heads * what.head_dim, 7);
        expected.randomize(random, 3.0F);
        Strided cos(memory(), tokens, what.rotated / 2);
        Strided sin(memory(), tokens, what.rotated / 2);
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t i = 0; i < what.rotated / 2; ++i) {
            const float angle = random.uniform(-3.14F, 3.14F);
            cos.set(t, i, std::cos(angle));
            sin.set(t, i, std::sin(angle));
          }
        }
        Strided actual = expected.copy(memory(), 7);
        // A product each, and their difference: relative to |a cos| + |b sin|, which sqrt(a^2 + b^2) bounds.
        Strided bound = expected.copy(memory());
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t c = 0; c < bound.cols(); ++c) {
            const int64_t i = c % what.head_dim;
            const int64_t half = what.rotated / 2;
            const int64_t partner =
                style == RopeStyle::kInterleaved ? (i ^ 1) : (i < half ? i + half : i - half);
            const double a = static_cast<double>(expected.get(t, c));
            const double b = i < what.rotated ? static_cast<double>(expected.get(t, c - i + partner)) : 0.0;
            bound.set(t, c, i < what.rotated ? static_cast<float>(gamma(4) * std::hypot(a, b)) : 0.0F);
          }
        }
        reference().rope(expected.view(), what.head_dim, cos.view(), sin.view(), style);
        candidate().rope(actual.view(), what.head_dim, cos.view(), sin.view(), style);
        expect_within(expected, actual, bound);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
