// SPDX-License-Identifier: Apache-2.0
#include "octet/core/float8.h"

#include <array>
#include <bit>

namespace octet {
namespace {

/// A small float of 1 sign bit, 7 - kMantissa exponent bits and kMantissa mantissa bits.
template <int kMantissa, int kBias, uint32_t kMaxCode>
struct Codec {
  static constexpr uint32_t kNaN = 0x7f;
  static constexpr int kDrop = 23 - kMantissa;

  static constexpr float decode(uint32_t code) {
    const uint32_t sign = (code & 0x80U) << 24;
    const uint32_t magnitude = code & 0x7fU;
    if (magnitude > kMaxCode) return std::bit_cast<float>(sign | special(magnitude));
    if ((magnitude >> kMantissa) == 0) {  // subnormal: an integer times the smallest step, exact in float32
      const float step = std::bit_cast<float>(static_cast<uint32_t>(127 + 1 - kBias - kMantissa) << 23);
      const float value = static_cast<float>(magnitude) * step;
      return sign != 0 ? -value : value;
    }
    const uint32_t rebiased = (magnitude << kDrop) + (static_cast<uint32_t>(127 - kBias) << 23);
    return std::bit_cast<float>(sign | rebiased);
  }

  /// E5M2 has an infinity at the first code beyond the largest finite one; all else is NaN.
  static constexpr uint32_t special(uint32_t magnitude) {
    const bool infinity = kMaxCode + 1 < kNaN && magnitude == kMaxCode + 1;
    return infinity ? 0x7f800000U : 0x7fc00000U;
  }

  static uint8_t encode(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 24) & 0x80U;
    const uint32_t magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) return static_cast<uint8_t>(sign | kNaN);
    constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(127 + 1 - kBias) << 23;
    uint32_t code = 0;
    if (magnitude < kSmallestNormal) {
      code = encode_subnormal(std::bit_cast<float>(magnitude));
    } else {
      // Adding half a step (less one, plus the last kept bit) carries into the exponent as rounding should.
      const uint32_t rounded = magnitude + ((1U << (kDrop - 1)) - 1U) + ((magnitude >> kDrop) & 1U);
      code = (rounded - (static_cast<uint32_t>(127 - kBias) << 23)) >> kDrop;
    }
    return static_cast<uint8_t>(sign | (code > kMaxCode ? kMaxCode : code));
  }

  /// Adding 2^23 steps makes the float adder itself round to a whole number of steps, ties to even.
  static uint32_t encode_subnormal(float magnitude) {
    constexpr uint32_t kMagicBits = static_cast<uint32_t>(127 + 1 - kBias - kMantissa + 23) << 23;
    const float sum = magnitude + std::bit_cast<float>(kMagicBits);
    return std::bit_cast<uint32_t>(sum) - kMagicBits;
  }
};

using E4M3 = Codec<3, 7, 0x7e>;
using E5M2 = Codec<2, 15, 0x7b>;

/// The value of every code: a look-up takes a third of the time of working it out, and activations are
/// widened code by code.
template <class Format>
constexpr std::array<float, 256> kValues = [] {
  std::array<float, 256> values{};
  for (uint32_t code = 0; code < values.size(); ++code) values[code] = Format::decode(code);
  return values;
}();

}  // namespace

float to_float(float8_e4m3 value) {
  return kValues<E4M3>[value.bits];
}
float to_float(float8_e5m2 value) {
  return kValues<E5M2>[value.bits];
}
float8_e4m3 to_float8_e4m3(float value) {
  return {E4M3::encode(value)};
}
float8_e5m2 to_float8_e5m2(float value) {
  return {E5M2::encode(value)};
}

}  // namespace octet
