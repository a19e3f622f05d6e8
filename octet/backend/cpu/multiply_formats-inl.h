// SPDX-License-Identifier: Apache-2.0
/// How the lanes of each stored format become operands of the float32 multiply. Included by multiply-inl.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "octet/backend/cpu/normal_codes-inl.h"

namespace octet::OCTET_ISA {
namespace {

/// Watches FP8 codes pass for those without a finite value, which the decoding by shifts would make finite.
struct Specials {
  I32 most = set1(int32_t{0});  // of the magnitudes, doubled

  void see(I32 lanes) { most = max_u8(most, double_bytes(lanes)); }
  [[nodiscard]] bool any(int largest_finite) const {
    alignas(64) uint8_t codes[sizeof(I32)];
    store_lanes(codes, most);
    bool found = false;
    for (const uint8_t code : codes) found |= code > 2 * largest_finite;
    return found;
  }
};

/// A constant in all lanes; where registers are few, one that the compiler may not hold in one of them.
template <int32_t kValue>
struct ConstantLanes {
  alignas(64) static constexpr auto kLanesOfIt = [] {
    std::array<int32_t, kLanes> lanes{};
    lanes.fill(kValue);
    return lanes;
  }();
};
template <bool kInMemory, int32_t kValue>
[[gnu::always_inline]] inline I32 constant() {
  if constexpr (!kInMemory) return set1(kValue);
  const int32_t* lanes = ConstantLanes<kValue>::kLanesOfIt.data();
  asm("" : "+r"(lanes));
  return load_lanes(lanes);
}
/// Base of the formats whose operands are float32 vectors.
struct F32Operands {
  /// Whether one column by itself takes about as many steps as `prepare`: then that is kept in memory.
  static constexpr bool kKeepsPrepared = false;
  using Operand = F32;
  using Prepared = I32;  // what is done once for all columns of a lane: nothing
  static F32 broadcast(const std::byte* x) { return broadcast_f32(x); }
  static F32 multiply_add(F32 w, F32 x, F32 sum) { return fma(w, x, sum); }
  static I32 prepare(I32 lanes) { return lanes; }
};

/// One float32 in a lane: float32 weights, and what the others become when they are decoded ahead.
struct FormatF32 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 1;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  static F32 widen(I32 lanes, int) { return as_float(lanes); }
  static F32 decoded_cell(I32 lanes, int) { return as_float(lanes); }
  template <bool>
  static F32 widen_lanes(I32 lanes, int) {
    return as_float(lanes);
  }
};

struct FormatBF16 : F32Operands {
  static constexpr int kCells = 2;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  /// What the weights become that are decoded ahead, once for many tokens.
  using Decoded = FormatF32;
  static F32 decoded_cell(I32 lanes, int column) { return widen(lanes, column); }
  static F32 widen(I32 lanes, int column) {
    return as_float(column == 0 ? shift_left<16>(lanes)
                                : bit_and(lanes, set1(static_cast<int32_t>(0xffff0000U))));
  }
  template <bool>
  static F32 widen_lanes(I32 lanes, int column) {
    return widen(lanes, column);
  }
};

/// Sign, exponent and mantissa of each byte moved to their places in a float32: the value times 2^-(127 -
/// bias), subnormal codes included, which become float32 subnormals. `kFinite`: no code is NaN or infinite.
template <int kMantissa, int kMost, bool kFinite>
struct FormatFp8 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 4;
  static constexpr bool kHasSpecials = !kFinite;
  static constexpr int kLargestFinite = kMost;
  static constexpr int kExponentBits = 7 - kMantissa;
  static constexpr int kShift = 8 - kExponentBits;  // from a float32's exponent of 8 bits
  static constexpr auto kMask = static_cast<int32_t>(0x80000000U | (0x7fU << (24 - kShift)));
  /// The upper halves of float32, copies of the sign still in them: those of two columns side by side, in
  /// fewer steps than each in a lane of its own.
  struct Prepared {
    I32 even;  // columns 0 and 2
    I32 odd;   // columns 1 and 3
  };
  static Prepared prepare(I32 lanes) {
    return {even_bytes_times<(1 << (8 - kShift))>(lanes), shift_right_halves<kShift>(lanes)};
  }
  /// The same in more steps, but with nothing held between columns; `kInMemory`: nor the constants.
  template <bool kInMemory>
  static F32 widen_lanes(I32 lanes, int column) {
    const I32 top = column == 0   ? shift_left<24>(lanes)
                    : column == 1 ? shift_left<16>(lanes)
                    : column == 2 ? shift_left<8>(lanes)
                                  : lanes;
    return as_float(bit_and(shift_right<kShift>(top), constant<kInMemory, kMask>()));
  }
  static F32 decoded_cell(I32 lanes, int column) { return widen(prepare(lanes), column); }
  static F32 widen(const Prepared& p, int column) {
    const I32 pair = column % 2 == 0 ? p.even : p.odd;
    return as_float(bit_and(column < 2 ? shift_left<16>(pair) : pair, set1(kMask)));
  }
};
template <bool kFinite>
using FormatE4M3 = FormatFp8<3, 0x7e, kFinite>;
template <bool kFinite>
using FormatE5M2 = FormatFp8<2, 0x7b, kFinite>;
inline constexpr int kE4M3Exponent = 127 - 7;
inline constexpr int kE5M2Exponent = 127 - 15;

/// The codes of normal_codes-inl.h.
template <int kMantissa, int kMost, bool kFinite>
struct FormatNormalFp8 : F32Operands {
  using Decoded = FormatF32;
  static constexpr bool kKeepsPrepared = true;
  static constexpr int kCells = 4;
  static constexpr bool kHasSpecials = !kFinite;
  static constexpr int kLargestFinite = kMost;
  /// bfloat16, those of two columns side by side.
  struct Prepared {
    I32 even;  // columns 0 and 2
    I32 odd;   // columns 1 and 3
  };
  static Prepared prepare(I32 lanes) {
    constexpr int kPlace = 1 << (7 - kMantissa);
    constexpr int kLeast = NormalAddends<kMantissa>::kLeast;
    const I32 codes = bit_and(lanes, set1(0x7f7f7f7f));
    const I32 addends = look_up_16(kNormalAddends<kMantissa>.of, min_u8(codes, set1(kLeast * 0x01010101)));
    const I32 sizes = add_bytes(codes, addends);
    const I32 signs = set1(static_cast<int32_t>(0x80008000U));
    return {with_bits(even_sizes_times<kPlace>(sizes), shift_left_halves<8>(lanes), signs),
            with_bits(odd_sizes_times<kPlace>(sizes), lanes, signs)};
  }
  template <bool kInMemory = false>
  static F32 widen(const Prepared& p, int column) {
    const I32 pair = column % 2 == 0 ? p.even : p.odd;
    return as_float(column < 2 ? shift_left<16>(pair)
                               : bit_and(pair, constant<kInMemory, static_cast<int32_t>(0xffff0000U)>()));
  }
  static F32 decoded_cell(I32 lanes, int column) { return widen(prepare(lanes), column); }
};
template <bool kFinite>
using FormatNormalE4M3 = FormatNormalFp8<3, 0x7e, kFinite>;
template <bool kFinite>
using FormatNormalE5M2 = FormatNormalFp8<2, 0x7b, kFinite>;

struct FormatF16 : F32Operands {
  using Decoded = FormatF32;
  static constexpr int kCells = 2;
  static constexpr bool kHasSpecials = false;
  static constexpr int kLargestFinite = 0;
  static F32 decoded_cell(I32 lanes, int column) { return widen(lanes, column); }
  static F32 widen(I32 lanes, int column) {
    return column == 0 ? widen_f16_low(lanes) : widen_f16_high(lanes);
  }
  template <bool>
  static F32 widen_lanes(I32 lanes, int column) {
    return widen(lanes, column);
  }
};

}  // namespace
}  // namespace octet::OCTET_ISA
