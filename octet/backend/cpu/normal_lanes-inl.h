// SPDX-License-Identifier: Apache-2.0
/// The codes of normal_codes-inl.h over the vectors of lanes-inl.h.
#pragma once

#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/normal_codes-inl.h"

namespace octet::OCTET_ISA::lanes {

/// Of the codes in the highest bytes of 32-bit lanes. With one exponent for all, a subnormal code has its
/// mantissa and a leading bit that does not count: twice that less twice the bit is its value. For a code
/// with an exponent this is no less than the value, which is what it has anyway.
template <int kMantissa>
[[gnu::always_inline]] inline F32 normal_values(I32 lanes) {
  constexpr int32_t kLeading = kMoreExponent<kMantissa> << 23;
  const I32 bits = (lanes >> (1 + kMantissa)) & (0x7f << (23 - kMantissa));
  const F32 size = as_float(bits | kLeading);
  const F32 other = fma(size, splat(2.0F), splat(-2.0F * __builtin_bit_cast(float, kLeading)));
  return as_float(as_int(min(size, other)) | (lanes & static_cast<int32_t>(0x80000000U)));
}

/// Of a register full of codes: bfloat16, those of the first of each two bytes and those of the second.
struct NormalHalves {
  Halves even;
  Halves odd;
};
template <int kMantissa>
[[gnu::always_inline]] inline NormalHalves normal_halves(Bytes codes) {
  using Addends = NormalAddends<kMantissa>;
  constexpr int kPlace = 7 - kMantissa;
  const Bytes sizes = codes & 0x7f;
  const Bytes index = sizes < Addends::kLeast ? sizes : Bytes{} + static_cast<uint8_t>(Addends::kLeast);
  const auto bits = (Halves)(sizes + lookup(repeat16(kNormalAddends<kMantissa>.of), index));
  const auto signs = (Halves)(codes & 0x80);
  return {((bits & 0xff) << kPlace) | (signs << 8), ((bits >> 8) << kPlace) | (signs & 0xff00)};
}

}  // namespace octet::OCTET_ISA::lanes
