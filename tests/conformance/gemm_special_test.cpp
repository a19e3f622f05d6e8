// SPDX-License-Identifier: Apache-2.0
/// Multiplies with every code of a format, with NaN and infinity, with zeros, and with values at the end of
/// the range.
#include <cmath>
#include <limits>

#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/multiplication.h"

namespace octet::conformance {
namespace {

class GemmSpecialConformance : public Conformance {
 protected:
  /// Calls body(case) for both formats, both layouts and each of the left operands and scales.
  template <class Body>
  void for_each_kind(MultiplyShape shape, Body&& body) {
    for (const DType format : kFp8) {
      for (const MatrixLayout layout : kLayouts) {
        for (const Left left : {Left::kFloat32, Left::kBFloat16, Left::kTokenE4M3}) {
          for (const Scales scales : {Scales::kNone, Scales::kRow, Scales::kGrid}) {
            const MultiplyCase what{.shape = shape,
                                    .weight = {format, scales},
                                    .left = left,
                                    .bias = DType::kF32,
                                    .layout = layout,
                                    .gap = 1};
            SCOPED_TRACE(what.to_string());
            body(what);
          }
        }
      }
    }
  }

  void expect_held(const Multiplication& multiplication) {
    expect_within(multiplication.run(reference()), multiplication.run(candidate()),
                  multiplication.bound(reference()));
  }
};

void set_code(const QuantMatrixView& w, int64_t row, int64_t col, uint8_t code) {
  *w.element(row, col) = static_cast<std::byte>(code);
}

TEST_P(GemmSpecialConformance, WidensEveryCodeExactly) {
  // One code in each row, at a place that moves through the columns: the output is the code's value times a
  // power of 2.
  for_each_kind({.m = 3, .n = 256, .k = 7}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 3);
    multiplication.x().transform([](float) { return 2.0F; });
    multiplication.quantize(reference());
    const QuantMatrixView w = multiplication.w().view();
    for (int64_t n = 0; n < w.rows; ++n) {
      for (int64_t k = 0; k < w.cols; ++k) set_code(w, n, k, k == n % w.cols ? static_cast<uint8_t>(n) : 0);
    }
    expect_held(multiplication);
  });
}

TEST_P(GemmSpecialConformance, KeepsTheNanOfAWeightInItsOwnOutput) {
  for_each_kind({.m = 5, .n = 70, .k = 130}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 4);
    for (const int64_t row : {0, 31, 64, 69}) set_code(multiplication.w().view(), row, 129 - row, 0xff);
    const Strided y = multiplication.run(candidate());
    for (int64_t t = 0; t < y.rows(); ++t) {
      for (int64_t n = 0; n < y.cols(); ++n) {
        EXPECT_EQ(std::isnan(y.get(t, n)), n == 0 || n == 31 || n == 64 || n == 69) << t << ", " << n;
      }
    }
  });
}

TEST_P(GemmSpecialConformance, KeepsTheNanAndInfinityOfATokenInItsOwnRow) {
  for (const MatrixLayout layout : kLayouts) {
    for (const Left left : {Left::kFloat32, Left::kBFloat16}) {
      for (const WeightKind& kind : kWeightKinds) {
        const MultiplyCase what{.shape = {.m = 9, .n = 66, .k = 131},
                                .weight = kind,
                                .left = left,
                                .bias = std::nullopt,
                                .layout = layout,
                                .gap = 2};
        SCOPED_TRACE(what.to_string());
        Multiplication multiplication(memory(), reference(), what, 5);
        const Strided before = multiplication.run(candidate());
        multiplication.x().set(4, 130, kNaN);
        multiplication.x().set(7, 0, std::numeric_limits<float>::infinity());
        const Strided after = multiplication.run(candidate());
        for (int64_t t = 0; t < after.rows(); ++t) {
          for (int64_t n = 0; n < after.cols(); ++n) {
            if (t == 4 || t == 7) {
              EXPECT_FALSE(std::isfinite(after.get(t, n))) << t << ", " << n;
            } else {
              EXPECT_EQ(before.get(t, n), after.get(t, n)) << t << ", " << n;
            }
          }
        }
      }
    }
  }
}

TEST_P(GemmSpecialConformance, GivesTheBiasAloneForZeroRows) {
  for_each_kind({.m = 4, .n = 65, .k = 33}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 6);
    multiplication.x().transform([](float) { return 0.0F; });
    multiplication.quantize(reference());
    expect_equal(multiplication.run(reference()), multiplication.run(candidate()));
  });
}

TEST_P(GemmSpecialConformance, AddsLargestCodesWithoutSaturating) {
  for_each_kind({.m = 2, .n = 17, .k = 515}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 7);
    multiplication.x().transform([](float) { return 448.0F; });
    multiplication.quantize(reference());
    const QuantMatrixView w = multiplication.w().view();
    const uint8_t largest = what.weight.dtype == DType::kF8E4M3 ? 0x7e : 0x7b;
    for (int64_t n = 0; n < w.rows; ++n) {
      for (int64_t k = 0; k < w.cols; ++k) set_code(w, n, k, largest);
    }
    expect_held(multiplication);
  });
}

TEST_P(GemmSpecialConformance, WidensSubnormalHalvesExactly) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const MatrixLayout layout : kLayouts) {
      const MultiplyCase what{.shape = {.m = 3, .n = 130, .k = 5},
                              .weight = {dtype, Scales::kNone},
                              .left = Left::kFloat32,
                              .bias = std::nullopt,
                              .layout = layout,
                              .gap = 0};
      SCOPED_TRACE(what.to_string());
      Multiplication multiplication(memory(), reference(), what, 8);
      const QuantMatrixView w = multiplication.w().view();
      const float step =
          dtype == DType::kF16 ? 0x1p-24F : 0x1p-133F;  // below the smallest normal value of each
      for (int64_t n = 0; n < w.rows; ++n)
        save_element(step * static_cast<float>(n + 1), w.element(n, 2), dtype);
      for (int64_t n = 0; n < w.rows; ++n) {
        for (const int64_t k : {0, 1, 3, 4}) save_element(0.0F, w.element(n, k), dtype);
      }
      multiplication.x().transform([](float) { return 0x1p100F; });
      expect_held(multiplication);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmSpecialConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
