// SPDX-License-Identifier: Apache-2.0
/// Values at which quantizing can go wrong.
#pragma once

#include <array>
#include <limits>

#include "tests/conformance/strided.h"

namespace octet::conformance {

/// Zeros of both signs, subnormals of each format, ties between codes, the ends of the ranges, infinities and
/// NaN.
inline constexpr std::array kSpecialValues = {
    0.0F,
    -0.0F,
    1.0F,
    -1.0F,
    0x1p-149F,
    0x1p-133F,
    0x1p-24F,
    -0x1p-16F,
    0x1p-17F,
    0x1.8p-17F,
    0x1p-10F,
    0x1.0002p-10F,
    0x1.8p-9F,
    0x1.4p-8F,
    0x1p-6F,
    1.0625F,
    -1.1875F,
    1.125F,
    17.0F,
    -19.0F,
    18.0F,
    447.0F,
    448.0F,
    449.0F,
    -464.0F,
    464.5F,
    480.0F,
    57344.0F,
    -61440.0F,
    61441.0F,
    65504.0F,
    65520.0F,
    3e38F,
    -3e38F,
    std::numeric_limits<float>::infinity(),
    -std::numeric_limits<float>::infinity(),
    std::numeric_limits<float>::quiet_NaN(),
};

/// Every `every`-th element becomes one of the special values, in turn.
inline void sprinkle(Strided& x, int64_t every) {
  int64_t index = 0;
  x.transform([&](float value) {
    const int64_t i = index++;
    return i % every == 0 ? kSpecialValues[static_cast<size_t>(i / every) % kSpecialValues.size()] : value;
  });
}

}  // namespace octet::conformance
