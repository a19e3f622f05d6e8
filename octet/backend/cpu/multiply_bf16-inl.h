// SPDX-License-Identifier: Apache-2.0
/// The multiply by the dot product of pairs of bfloat16: the loops of multiply-inl.h over other operands.
/// Every path takes the same pairs (k, k + 1) from even k in ascending order. The instruction counts
/// subnormal operands and results (below 2^-126) as zero; no FP8 code widens to one.
#pragma once

#include "octet/backend/cpu/multiply-inl.h"

namespace octet::OCTET_ISA {
namespace {

struct PairOperands {
  using Operand = I32;
  static constexpr bool kHasSpecials = false;  // infinities and NaN are looked up as such
  static constexpr int kLargestFinite = 0;
  static I32 broadcast(const std::byte* x) { return broadcast_pair(x); }
  static F32 multiply_add(I32 w, I32 x, F32 sum) { return dot_bf16(sum, w, x); }
};

/// bfloat16 weights, and what the others become when they are decoded ahead.
struct PairsBF16 : PairOperands {
  using Decoded = PairsBF16;
  static constexpr int kCells = 1;
  using Prepared = I32;
  static I32 prepare(I32 lanes) { return lanes; }
  static I32 widen(I32 lanes, int) { return lanes; }
  static I32 decoded_cell(I32 lanes, int) { return lanes; }
};

/// The bytes of the bfloat16 of each of 128 magnitudes.
struct ByteTables {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
};

/// The bits of a magnitude as bfloat16, exact. Subnormal codes are normal there: shifted until the leading
/// bit drops out.
template <int kMantissa, int kBias, int kMostFinite>
constexpr uint32_t magnitude_as_bf16(int code) {
  const int mantissa = code & ((1 << kMantissa) - 1);
  const int exponent = code >> kMantissa;
  if (code > kMostFinite) return kMostFinite == 0x7b && code == 0x7c ? 0x7f80U : 0x7fc0U;
  if (code == 0) return 0;
  int bits = mantissa;
  int power = exponent - kBias + 127;
  if (exponent == 0) {
    power += 1;
    while (bits < (1 << kMantissa)) {
      bits <<= 1;
      power -= 1;
    }
    bits -= 1 << kMantissa;
  }
  return static_cast<uint32_t>((power << 7) | (bits << (7 - kMantissa)));
}

template <int kMantissa, int kBias, int kMostFinite>
constexpr ByteTables byte_tables() {
  ByteTables tables = {};
  for (int code = 0; code < 128; ++code) {
    const uint32_t bits = magnitude_as_bf16<kMantissa, kBias, kMostFinite>(code);
    tables.low[code] = static_cast<uint8_t>(bits & 0xffU);
    tables.high[code] = static_cast<uint8_t>(bits >> 8);
  }
  return tables;
}

template <int kMantissa, int kBias, int kMostFinite>
struct PairsFp8 : PairOperands {
  using Decoded = PairsBF16;
  static constexpr int kCells = 2;
  static constexpr ByteTables kTables = byte_tables<kMantissa, kBias, kMostFinite>();

  struct Prepared {
    I32 low;  // the low bytes of all bfloat16: those of columns (0, 1) of four rows, then those of (2, 3)
    I32 high;
  };

  static Prepared prepare(I32 lanes) {
    const I32 codes = pairs_of_four_rows(lanes);
    return {look_up_128(kTables.low, codes), with_sign_of(look_up_128(kTables.high, codes), codes)};
  }
  static I32 decoded_cell(I32 lanes, int pair) { return widen(prepare(lanes), pair); }
  static I32 widen(const Prepared& p, int pair) {
    return pair == 0 ? interleave_low_bytes(p.low, p.high) : interleave_high_bytes(p.low, p.high);
  }
};

using PairsE4M3 = PairsFp8<3, 7, 0x7e>;
using PairsE5M2 = PairsFp8<2, 15, 0x7b>;

inline void pack_bf16(const float* x, int64_t count, uint16_t* cells) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_high_halves(cells + i, round_bf16(load(x + i)));
  float rest[kLanes] = {};
  uint16_t halves[kLanes];
  for (int64_t j = i; j < count; ++j) rest[j - i] = x[j];
  store_high_halves(halves, round_bf16(load(rest)));
  for (; i < count; ++i) cells[i] = halves[i % kLanes];
}

constexpr MultiplyKernels with_bf16(MultiplyKernels kernels) {
  for (const WeightFormat e4m3 : {WeightFormat::kE4M3, WeightFormat::kE4M3Finite}) {
    kernels.bf16[static_cast<int>(e4m3)] = multiply_panel<PairsE4M3>;
  }
  for (const WeightFormat e5m2 : {WeightFormat::kE5M2, WeightFormat::kE5M2Finite}) {
    kernels.bf16[static_cast<int>(e5m2)] = multiply_panel<PairsE5M2>;
  }
  kernels.bf16[static_cast<int>(WeightFormat::kBF16)] = multiply_panel<PairsBF16>;
  kernels.pack_bf16 = pack_bf16;
  return kernels;
}

}  // namespace

inline constexpr MultiplyKernels kMultiplyKernelsBf16 = with_bf16(kMultiplyKernels);

}  // namespace octet::OCTET_ISA
