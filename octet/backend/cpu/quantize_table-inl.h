// SPDX-License-Identifier: Apache-2.0
/// Quantizing bfloat16 by a table of its 128 mantissas. Included by quantize-inl.h.
#pragma once

#include <type_traits>

#include "octet/backend/cpu/quantize_long-inl.h"

namespace octet::OCTET_ISA::lanes {

/// Where the table may serve: squares of all values then lie well inside float32.
inline constexpr float kSmallestTableScale = 0x1p-40F;
inline constexpr float kLargestTableScale = 0x1p6F;

/// The magnitudes of the quotients of kLanes bfloat16 from the one with these bits on.
inline F32 quotients_from(int32_t bits, const Divisor& by) {
  return magnitude(quotient<bfloat16>(as_float((lane_numbers() + bits) << 16), by));
}

/// The buckets from the codes of all 128 mantissas; false when one holds two steps.
inline bool fill_buckets(const std::byte* codes, MantissaTable& table) {
  uint64_t most_steps = 0;
  for (int j = 0; j < 16; ++j) {
    uint64_t eight = 0;
    __builtin_memcpy(&eight, codes + 8 * j, 8);
    const uint64_t first = eight & 0xff;
    const int equal = __builtin_ctzll((eight ^ (first * 0x0101010101010101ULL)) | (1ULL << 63)) / 8;
    const uint64_t last = eight >> 56;
    table.first[j] = static_cast<uint8_t>(first);
    table.last[j] = static_cast<uint8_t>(8 * j + equal - (last != first));
    most_steps |= last - first;
  }
  return most_steps <= 1;
}

template <class Format>
inline void make_table(const QuantizeKind& kind, float scale, MantissaTable& table) {
  table.made = true;
  table.scale = scale;
  table.usable = scale >= kSmallestTableScale && scale <= kLargestTableScale;
  if (!table.usable) return;
  const Divisor by(kind.quotient, scale);
  const float min_normal = as_float(splat(Format::kMinNormalBits))[0];
  // The first binade whose quotients are all normal: near that of scale * min_normal.
  int32_t binade = (__builtin_bit_cast(int32_t, scale) >> 23) + (Format::kMinNormalBits >> 23) - 127;
  while (quotients_from(binade << 7, by)[0] < min_normal) ++binade;
  alignas(64) std::byte codes[128];
  const F32 top = splat(1.75F * min_normal);  // the largest finite value, moved into this binade
  I32 within_top{};
  I32 within_twice{};
  for (int m = 0; m < 128; m += kLongStep) {
    F32 q[4];
    I32 code[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      q[v] = quotients_from((binade << 7) + m + v * kLanes, by);
      code[v] = round_size_to_fp8<Format>(q[v]).codes;
      within_top -= q[v] <= top;
      within_twice -= q[v] <= top + top;
    }
    save_codes(code, q, codes + m);
  }
  table.usable = fill_buckets(codes, table);
  table.base = static_cast<uint16_t>(binade << 7);
  const int64_t here = sum_of(within_top);
  const int64_t last = here > 0 ? (Format::kBinades - 1) * 128 + here - 1
                                : (Format::kBinades - 2) * 128 + sum_of(within_twice) - 1;
  table.span = static_cast<uint16_t>(last);
}

inline constexpr int64_t kTableStep = 4 * kLanes;  // values of one turn: a register full of codes
inline constexpr int64_t kTurnsPerSum = 64;        // 128 additions in each float32 lane

/// A MantissaTable and the constants of a turn.
struct TableLanes {
  Bytes first;
  Bytes last;
  Halves base;
  Halves span;
  F32 minus_scale;  // times the power of two by which a code's bits, read as a float32, fall short of its
                    // value
  Halves magnitude_bits = Halves{} + static_cast<uint16_t>(0x7fff);
  Halves mantissa_bits = Halves{} + static_cast<uint16_t>(127);
  Bytes binade_bits;
  Bytes bucket_bits = Bytes{} + static_cast<uint8_t>(15);
  Bytes sign_bit = Bytes{} + static_cast<uint8_t>(128);
  I32 odd_bits = splat(static_cast<int32_t>(0xffff0000U));

  template <class Format>
  static TableLanes of(const MantissaTable& table) {
    const int32_t bias = Format::kMinNormalBits - (1 << 23);
    TableLanes result;
    result.first = repeat16(table.first);
    result.last = repeat16(table.last);
    result.base = Halves{} + table.base;
    result.span = Halves{} + table.span;
    result.minus_scale = splat(-table.scale * __builtin_bit_cast(float, (127 << 23) + bias));
    result.binade_bits = Bytes{} + static_cast<uint8_t>(-(1 << Format::kMantissa));
    return result;
  }
};

/// Signal and noise of some hundred values in float32, whose products with a table's scale cannot over- or
/// underflow.
struct ShortSums {
  F32 even_signal{};
  F32 odd_signal{};
  F32 even_noise{};
  F32 odd_noise{};

  /// The magnitudes (bits) of bfloat16, and their codes in the upper half of the same 16-bit lanes.
  template <class Format>
  [[gnu::always_inline]] void add(Halves sizes, Halves codes, const TableLanes& table) {
    constexpr int kShift = 15 - Format::kMantissa;
    const F32 even = as_float((I32)sizes << 16);
    const F32 odd = as_float((I32)sizes & table.odd_bits);
    const F32 even_error = fma(table.minus_scale, as_float(even_shifted<kShift>(codes)), even);
    const F32 odd_error = fma(table.minus_scale, as_float(odd_shifted<kShift>(codes)), odd);
    even_signal = fma(even, even, even_signal);
    odd_signal = fma(odd, odd, odd_signal);
    even_noise = fma(even_error, even_error, even_noise);
    odd_noise = fma(odd_error, odd_error, odd_noise);
  }
  void add_to(LaneSums& sums) const {
    sums.add_short(even_signal, even_noise);
    sums.add_short(odd_signal, odd_noise);
  }
};

/// A rectangle of bfloat16 under one scale, as far as whole turns cover its rows.
struct TurnArea {
  int64_t turns;      // of each row
  int64_t x_gap;      // elements from the end of a row's turns to the next row
  int64_t codes_gap;  // bytes
  int64_t ahead;      // bytes
};

/// The next turn of an area.
struct TurnPlace {
  const bfloat16* x;
  std::byte* codes;
  int64_t left;  // turns of this row
};

/// The next `count` turns of an area, row after row; stops before one that holds a value out of the table's
/// reach. Returns how many were done. Where sums take registers as well and there are but sixteen, the
/// constants stay in memory.
template <class Format, bool kCounted>
[[gnu::noinline]] int64_t quantize_turns(const TurnArea& area, TurnPlace& place, int64_t count,
                                         const TableLanes& constants, LaneSums& sums) {
  using Signs = int8_t __attribute__((vector_size(4 * kLanes)));
  constexpr int kStepBits = 7 - Format::kMantissa;
  constexpr bool kInMemory = kCounted && kLanes < 16;
  const std::conditional_t<kInMemory, const TableLanes&, TableLanes> table = constants;
  TurnPlace at = place;
  ShortSums short_sums;
  int64_t turn = 0;
  for (; turn < count; ++turn, at.x += kTableStep, at.codes += kTableStep, --at.left) {
    if (at.left == 0) at = {at.x + area.x_gap, at.codes + area.codes_gap, area.turns};
    for (int64_t line = 0; line < 2 * kTableStep; line += 64)
      __builtin_prefetch(reinterpret_cast<const std::byte*>(at.x) + area.ahead + line);
    const Halves a = load<Halves>(at.x);
    const Halves b = load<Halves>(at.x + 2 * kLanes);
    const Halves size_a = a & table.magnitude_bits;
    const Halves size_b = b & table.magnitude_bits;
    const Halves from_a = size_a - table.base;  // wraps below the base
    const Halves from_b = size_b - table.base;
    if (any(subtract_saturated(from_a, table.span) | subtract_saturated(from_b, table.span))) break;
    const Bytes mantissa = pack(from_a & table.mantissa_bits, from_b & table.mantissa_bits);
    const Bytes binades = pack(from_a >> kStepBits, from_b >> kStepBits) & table.binade_bits;
    const Bytes bucket = (Bytes)((Halves)mantissa >> 3) & table.bucket_bits;
    const Bytes step = (Bytes)((Signs)mantissa > (Signs)lookup(table.last, bucket));  // 255, which is -1
    const Bytes size = lookup(table.first, bucket) + binades - step;
    save(at.codes, in_order(size | (pack_signs(a, b) & table.sign_bit)));
    if constexpr (kCounted) {
      short_sums.add<Format>(size_a, low_bytes(size), table);
      short_sums.add<Format>(size_b, high_bytes(size), table);
    }
  }
  if constexpr (kCounted) short_sums.add_to(sums);
  place = at;
  return turn;
}

template <class Format, bool kCounted>
inline void quantize_by_table(const QuantizeKind& kind, const QuantizeRun& run, const MantissaTable& table,
                              LaneSums& sums) {
  const auto* x = reinterpret_cast<const bfloat16*>(run.x);
  const TableLanes lanes = TableLanes::of<Format>(table);
  const int64_t turns = run.count / kTableStep;
  const int64_t whole = turns * kTableStep;
  const int64_t x_stride = run.x_stride / 2;
  const auto take_long = [&](const bfloat16* from, int64_t count, std::byte* codes) {
    quantize_long<bfloat16, Format>(kind, Divisor(kind.quotient, run.scale), from, count, codes, sums);
  };
  const TurnArea area = {turns, x_stride - whole, run.codes_stride - whole, run.ahead};
  TurnPlace place = {x, run.codes, turns};
  for (int64_t rest = run.rows * turns; rest > 0;) {
    const int64_t wanted = rest < kTurnsPerSum ? rest : kTurnsPerSum;
    const int64_t done = quantize_turns<Format, kCounted>(area, place, wanted, lanes, sums);
    rest -= done;
    if (done == wanted) continue;
    take_long(place.x, kTableStep, place.codes);
    place = {place.x + kTableStep, place.codes + kTableStep, place.left - 1};
    --rest;
  }
  if (whole == run.count) return;
  for (int64_t row = 0; row < run.rows; ++row) {
    take_long(x + row * x_stride + whole, run.count - whole, run.codes + row * run.codes_stride + whole);
  }
}

}  // namespace octet::OCTET_ISA::lanes
