// SPDX-License-Identifier: Apache-2.0
/// How the lanes of each stored format become operands of the float32 multiply. Included by multiply-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA {
namespace {

/// Watches FP8 codes pass for those without a finite value, which the decoding by shifts would make finite.
struct Specials {
  I32 unsigned_most = set1(int32_t{0});
  I32 signed_most = set1(int32_t{0});

  /// Among bytes, the largest as signed is the largest positive code, the largest as unsigned the largest negative one.
  void see(I32 lanes) {
    unsigned_most = max_u8(unsigned_most, lanes);
    signed_most = max_s8(signed_most, lanes);
  }
  [[nodiscard]] bool any(int largest_finite) const {
    alignas(64) uint8_t codes[2][sizeof(I32)];
    store_lanes(codes[0], unsigned_most);
    store_lanes(codes[1], signed_most);
    bool found = false;
    for (const auto& half : codes) {
      for (const uint8_t code : half) found |= (code & 0x7f) > largest_finite;
    }
    return found;
  }
};

/// Base of the formats whose operands are float32 vectors.
struct F32Operands {
  using Operand = F32;
  static F32 multiply_add(F32 w, const std::byte* x, F32 sum) { return fma(w, broadcast_f32(x), sum); }
};

/// One float32 in a lane: float32 weights, and what the others become when they are decoded ahead.
struct FormatF32 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 1;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  static void widen(I32 lanes, F32 (&out)[1]) { out[0] = as_float(lanes); }
};

/// Sign, exponent and mantissa of each byte moved to their places in a float32: the value times 2^-(127 - bias),
/// subnormal codes included, which become float32 subnormals.
template <int kMantissa, int kMost>
struct FormatFp8 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 4;
  static constexpr bool kHasSpecials = true;
  static constexpr int kLargestFinite = kMost;
  static constexpr int kExponentBits = 7 - kMantissa;
  static constexpr int kShift = 8 - kExponentBits;  // from a float32's exponent of 8 bits
  static constexpr int32_t kMask = static_cast<int32_t>(0x80000000U | (0x7fU << (24 - kShift)));

  static void widen(I32 lanes, F32 (&out)[4]) {
    const I32 mask = set1(kMask);
    out[0] = as_float(bit_and(shift_right<kShift>(shift_left<24>(lanes)), mask));
    out[1] = as_float(bit_and(shift_right<kShift>(shift_left<16>(lanes)), mask));
    out[2] = as_float(bit_and(shift_right<kShift>(shift_left<8>(lanes)), mask));
    out[3] = as_float(bit_and(shift_right<kShift>(lanes), mask));
  }
};
using FormatE4M3 = FormatFp8<3, 0x7e>;
using FormatE5M2 = FormatFp8<2, 0x7b>;
inline constexpr int kE4M3Exponent = 127 - 7;
inline constexpr int kE5M2Exponent = 127 - 15;

struct FormatBF16 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 2;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  static void widen(I32 lanes, F32 (&out)[2]) {
    out[0] = as_float(shift_left<16>(lanes));
    out[1] = as_float(bit_and(lanes, set1(static_cast<int32_t>(0xffff0000U))));
  }
};

struct FormatF16 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 2;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  static void widen(I32 lanes, F32 (&out)[2]) {
    out[0] = widen_f16_low(lanes);
    out[1] = widen_f16_high(lanes);
  }
};

}  // namespace
}  // namespace octet::OCTET_ISA
