// SPDX-License-Identifier: Apache-2.0
/// FP8 codes as float32 of which none is subnormal, for processors to which such operands are slow (see
/// slow_subnormals()): exponents are kMoreExponent larger than those of the codes, that is, a value comes out
/// times 2^-(127 - bias - kMoreExponent), and so do subnormal codes, which become normal numbers.
///
/// A code without its sign is c. Where it has an exponent, 0x80 + c has the bits of the float32's exponent
/// and mantissa, and the few others are looked up: all in a byte.
#pragma once

#include <cstdint>

namespace octet::OCTET_ISA {

template <int kMantissa>
inline constexpr int kMoreExponent = 0x80 >> kMantissa;

/// Indexed by c, or by the least code with an exponent for this and all above: what is added to c.
template <int kMantissa>
struct NormalAddends {
  static constexpr int kLeast = 1 << kMantissa;  // code with an exponent
  alignas(16) uint8_t of[16] = {};               // zero for zero

  constexpr NormalAddends() {
    of[kLeast] = 0x80;
    for (int c = 1; c < kLeast; ++c) {
      int exponent = kMoreExponent<kMantissa> + 1;
      int mantissa = c;
      for (; mantissa < kLeast; mantissa *= 2) --exponent;
      of[c] = static_cast<uint8_t>((exponent << kMantissa) + mantissa - kLeast - c);
    }
  }
};
template <int kMantissa>
inline constexpr NormalAddends<kMantissa> kNormalAddends;

/// Where that byte is in a bfloat16: shifted to the left by this.
template <int kMantissa>
inline constexpr int kHalfPlace = 7 - kMantissa;

}  // namespace octet::OCTET_ISA
