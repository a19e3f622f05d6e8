// SPDX-License-Identifier: Apache-2.0
/// Three ways in which a result may have to agree with the reference: to the bit, to the bit but for the sign
/// and payload of a NaN, and within a bound that is computed from the operation.
#pragma once

#include <limits>

#include "octet/core/quant_matrix.h"
#include "tests/conformance/strided.h"

namespace octet::conformance {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Unit roundoff of float32.
inline constexpr double kRoundoff = 0x1p-24;

/// The relative error that `operations` roundings can add up to.
[[nodiscard]] constexpr double gamma(double operations) {
  return operations * kRoundoff / (1.0 - operations * kRoundoff);
}

/// Equal shapes, elements and untouched gaps; all NaN are one.
void expect_equal(const Strided& expected, const Strided& actual);
/// Equal elements and padding; all NaN are one.
void expect_equal(const QuantMatrix& expected, const QuantMatrix& actual);
/// Equal bits of every row of `actual` and the rows of `expected` from `first_row` on.
void expect_same_bits(const Strided& expected, const Strided& actual, int64_t first_row = 0);
/// |expected - actual| <= bound for each element, all of one shape; infinities and NaN must agree. Gaps
/// untouched.
void expect_within(const Strided& expected, const Strided& actual, const Strided& bound);

}  // namespace octet::conformance
