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

/// Of a register full of codes: bfloat16, those of the first two of each four bytes and those of the others.
struct NormalHalves {
  Halves first;
  Halves second;
};
/// Which code is at place `place` of NormalHalves.
constexpr int code_at(int place) {
  constexpr int kHalf = 2 * kLanes;
  return place % kHalf / 2 * 4 + place / kHalf * 2 + place % 2;
}
/// The order in which low_bytes takes those of `first` and high_bytes those of `second`.
inline Bytes pairs_of_fours(Bytes codes) {
  alignas(16) static constexpr uint8_t kOrder[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
  return lookup(codes, repeat16(kOrder));
}
struct DecodedBySteps {
  template <int kMantissa>
  [[gnu::always_inline]] static NormalHalves halves(Bytes codes) {
    using Addends = NormalAddends<kMantissa>;
    constexpr int kPlace = 8 - kHalfPlace<kMantissa>;  // bytes come in the upper half of 16 bits
    const Bytes packed = pairs_of_fours(codes);
    const Bytes sizes = packed & 0x7f;
    const Bytes index = sizes < Addends::kLeast ? sizes : Bytes{} + static_cast<uint8_t>(Addends::kLeast);
    const Bytes bits = sizes + lookup(repeat16(kNormalAddends<kMantissa>.of), index);
    return {(low_bytes(bits) >> kPlace) | (low_bytes(packed) & 0x8000),
            (high_bytes(bits) >> kPlace) | (high_bytes(packed) & 0x8000)};
  }
};

}  // namespace octet::OCTET_ISA::lanes
