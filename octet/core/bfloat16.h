// SPDX-License-Identifier: Apache-2.0
/// Scalar 16-bit floats. Conversion from float32 rounds to nearest, ties to even; overflow becomes infinity,
/// NaN stays NaN (quiet, sign kept). Conversion to float32 is exact.
#pragma once

#include <bit>
#include <cstdint>

namespace octet {

struct bfloat16 {
  uint16_t bits = 0;
};

struct float16 {
  uint16_t bits = 0;
};

[[nodiscard]] constexpr float to_float(float value) {
  return value;
}
[[nodiscard]] constexpr float to_float(bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
[[nodiscard]] float to_float(float16 value);

[[nodiscard]] constexpr bfloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return {static_cast<uint16_t>((bits >> 16) | 0x0040U)};
  return {static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}
[[nodiscard]] float16 to_float16(float value);

/// The float32 value rounded once to bfloat16 and back.
[[nodiscard]] constexpr float round_to_bfloat16(float value) {
  return to_float(to_bfloat16(value));
}

/// from_float<T>: the one conversion that generic code uses.
template <class T>
[[nodiscard]] T from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline bfloat16 from_float<bfloat16>(float value) {
  return to_bfloat16(value);
}
template <>
inline float16 from_float<float16>(float value) {
  return to_float16(value);
}

}  // namespace octet
