// SPDX-License-Identifier: Apache-2.0
/// Scalar FP8 codecs: the meaning of every FP8 byte in Octet.
///
///   E4M3 (float8_e4m3fn): bias 7, largest finite 448 (0x7E), no infinities, NaN 0x7F and 0xFF, step 2^-9
///   below 2^-6. E5M2 (float8_e5m2):   bias 15, largest finite 57344 (0x7B), infinity 0x7C, NaN 0x7D to 0x7F,
///   step 2^-16 below 2^-14.
///
/// From float32: round to nearest, ties to even; finite values and infinities beyond the range saturate to
/// the largest finite value of their sign; NaN becomes 0x7F with the sign kept; -0 stays -0. To float32:
/// exact.
#pragma once

#include <cstdint>

#include "octet/core/bfloat16.h"

namespace octet {

/// The smallest scale of a row that is quantized dynamically, whatever the format.
inline constexpr float kSmallestScale = 1.0F / (448.0F * 512.0F);

struct float8_e4m3 {
  uint8_t bits = 0;
};

struct float8_e5m2 {
  uint8_t bits = 0;
};

[[nodiscard]] float to_float(float8_e4m3 value);
[[nodiscard]] float to_float(float8_e5m2 value);
[[nodiscard]] float8_e4m3 to_float8_e4m3(float value);
[[nodiscard]] float8_e5m2 to_float8_e5m2(float value);

template <>
inline float8_e4m3 from_float<float8_e4m3>(float value) {
  return to_float8_e4m3(value);
}
template <>
inline float8_e5m2 from_float<float8_e5m2>(float value) {
  return to_float8_e5m2(value);
}

}  // namespace octet
