// SPDX-License-Identifier: Apache-2.0
/// The kernels of loading, written once over lanes-inl.h. Included by kernels_<isa>.cpp.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet::OCTET_ISA {
namespace lanes {

// ---- the largest magnitude ----

template <class T>
inline AbsMax abs_max_run(const T* x, int64_t count) {
  F32 largest_lanes{};
  I32 not_finite{};
  for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 size = magnitude(widen_some(x + i, n));
    largest_lanes = size > largest_lanes ? size : largest_lanes;  // false for NaN
    not_finite -= as_int(size) >= 0x7f800000;
  });
  return {largest(largest_lanes), sum_of(not_finite)};
}

/// bfloat16 by its bits, which order as the magnitudes do; where one is not finite, again as any other type.
inline AbsMax abs_max_run(const bfloat16* x, int64_t count) {
  constexpr int64_t kStep = 2 * kLanes;
  using Signed = int16_t __attribute__((vector_size(4 * kLanes)));
  Signed most{};
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    const Signed size = (Signed)(load<Halves>(x + i) & 0x7fff);
    most = size > most ? size : most;
  }
  if (i < count) {
    uint16_t rest[kStep] = {};
    __builtin_memcpy(rest, x + i, static_cast<size_t>(count - i) * 2);
    const Signed size = (Signed)(load<Halves>(rest) & 0x7fff);
    most = size > most ? size : most;
  }
  int16_t result = 0;
  for (int lane = 0; lane < kStep; ++lane) result = most[lane] > result ? most[lane] : result;
  if (result >= 0x7f80) return abs_max_run<bfloat16>(x, count);
  return {__builtin_bit_cast(float, static_cast<int32_t>(result) << 16), 0};
}

inline AbsMax abs_max(DType dtype, const std::byte* x, int64_t count) {
  AbsMax result;
  visit_real(dtype, [&]<class T>() { result = abs_max_run(reinterpret_cast<const T*>(x), count); });
  return result;
}

// ---- quantizing, the long way: any type, any value ----

/// A scale with its reciprocal, in every lane.
struct Divisor {
  QuotientKind kind;
  F32 scale;
  F32 reciprocal;

  Divisor(QuotientKind quotient, float value)
      : kind(quotient), scale(splat(value)), reciprocal(1.0F / scale) {}
};

template <class T>
inline F32 quotient(F32 x, const Divisor& by) {
  switch (by.kind) {
    case QuotientKind::kRaw:
      return x;
    case QuotientKind::kDivide:
      return x / by.scale;
    case QuotientKind::kReciprocal:
      return x * by.reciprocal;
    case QuotientKind::kDivideRounded:
      return round_to<T>(x / by.scale);
  }
  return x;
}

/// Sums of one run, lane by lane.
struct LaneSums {
  F64 signal{};
  F64 noise{};
  I32 zeroed{};
  I32 saturated{};

  /// x and its code's magnitude q; values that are not finite have no part in signal and noise.
  [[gnu::always_inline]] void add(F32 x, F32 q, F32 scale) {
    zeroed -= (x != 0.0F) & (q == 0.0F);
    const I32 not_finite = as_int(magnitude(x)) >= 0x7f800000;
    if (any((Halves)not_finite)) return add_finite_lanes(x, q, scale);
    const F32 size = magnitude(x);
    const F64 by = low_doubles(magnitude(scale));
    add_doubles(low_doubles(size), low_doubles(q), by);
    add_doubles(high_doubles(size), high_doubles(q), by);
  }
  void add_doubles(F64 value, F64 q, F64 scale) {
    const F64 error = value - scale * q;
    signal += value * value;
    noise += error * error;
  }
  [[gnu::noinline]] void add_finite_lanes(F32 x, F32 q, F32 scale) {
    for (int i = 0; i < kLanes; ++i) {
      if (!(__builtin_fabsf(x[i]) <= 0x1.fffffep127F)) continue;
      const double value = static_cast<double>(__builtin_fabsf(x[i]));
      const double error = value - static_cast<double>(__builtin_fabsf(scale[i])) * static_cast<double>(q[i]);
      signal[0] += value * value;
      noise[0] += error * error;
    }
  }
  void add_to(QuantizeSums& sums) const {
    sums.signal += sum_of(signal);
    sums.noise += sum_of(noise);
    sums.zeroed += sum_of(zeroed);
    sums.saturated += sum_of(saturated);
  }
};

template <class T, class Format>
inline void quantize_long(const QuantizeKind& kind, const QuantizeRun& run, LaneSums& sums) {
  const auto* x = reinterpret_cast<const T*>(run.x);
  const Divisor by(kind.quotient, run.scale);
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 value = widen_some(x + i, n);
    const F32 q = quotient<T>(value, by);
    const Rounded rounded = round_to_fp8<Format>(q, kind.nan_saturates);
    save_bytes(rounded.codes, run.codes + i, n);
    sums.saturated -= magnitude(q) > max_of<Format>();
    sums.add(value, rounded.size, by.scale);
  });
}

// ---- quantizing bfloat16 by a table ----

/// Where the table may serve: squares of all values then lie well inside float32.
inline constexpr float kSmallestTableScale = 0x1p-40F;
inline constexpr float kLargestTableScale = 0x1p6F;

/// |quotient| of the bfloat16 with these bits.
inline float quotient_of_bits(int32_t bits, const Divisor& by) {
  return magnitude(quotient<bfloat16>(as_float(splat(bits << 16)), by))[0];
}

/// The buckets from the codes of all 128 mantissas; false when one holds two steps.
inline bool fill_buckets(const std::byte* codes, MantissaTable& table) {
  bool single = true;
  for (int j = 0; j < 16; ++j) {
    uint64_t eight = 0;
    __builtin_memcpy(&eight, codes + 8 * j, 8);
    const uint64_t first = eight & 0xff;
    const uint64_t other = eight ^ (first * 0x0101010101010101ULL);
    const int equal = other == 0 ? 8 : __builtin_ctzll(other) / 8;
    table.first[j] = static_cast<uint8_t>(first);
    table.last[j] = static_cast<uint8_t>(8 * j + equal - 1);
    single = single && (eight >> 56) - first <= 1;
  }
  return single;
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
  while (quotient_of_bits(binade << 7, by) < min_normal) ++binade;
  alignas(64) std::byte codes[128];
  alignas(64) bfloat16 mantissas[kLanes];
  const F32 top = splat(1.75F * min_normal);  // the largest finite value, moved into this binade
  I32 within_top{};
  I32 within_twice{};
  for (int m = 0; m < 128; m += kLanes) {
    for (int i = 0; i < kLanes; ++i) mantissas[i].bits = static_cast<uint16_t>((binade << 7) + m + i);
    const F32 q = quotient<bfloat16>(widen(mantissas), by);
    save_bytes(round_to_fp8<Format>(q, true).codes, codes + m);
    within_top -= q <= top;
    within_twice -= q <= top + top;
  }
  table.usable = fill_buckets(codes, table);
  table.base = static_cast<uint16_t>(binade << 7);
  const int64_t here = sum_of(within_top);
  const int64_t last = here > 0 ? (Format::kBinades - 1) * 128 + here - 1
                                : (Format::kBinades - 2) * 128 + sum_of(within_twice) - 1;
  table.span = static_cast<uint16_t>(last);
}

inline constexpr int64_t kTableStep = 4 * kLanes;  // values of one turn: a register full of codes
inline constexpr int64_t kTurnsPerSum = 16;        // 32 additions in each float32 lane

/// A MantissaTable and the constants of a turn. They stay in memory: sixteen registers do not hold them all.
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

  /// The magnitudes (bits) of bfloat16 and their codes, both in 16-bit lanes.
  template <class Format>
  [[gnu::always_inline]] void add(Halves sizes, Halves codes, const TableLanes& table) {
    constexpr int kShift = 23 - Format::kMantissa;
    const F32 even = as_float((I32)sizes << 16);
    const F32 odd = as_float((I32)sizes & table.odd_bits);
    const F32 even_error = fma(table.minus_scale, as_float((I32)codes << kShift), even);
    const F32 odd_error = fma(table.minus_scale, as_float(((I32)codes >> 16) << kShift), odd);
    even_signal = fma(even, even, even_signal);
    odd_signal = fma(odd, odd, odd_signal);
    even_noise = fma(even_error, even_error, even_noise);
    odd_noise = fma(odd_error, odd_error, odd_noise);
  }
  void add_to(LaneSums& sums) const {
    sums.signal += low_doubles(even_signal) + high_doubles(even_signal) + low_doubles(odd_signal) +
                   high_doubles(odd_signal);
    sums.noise +=
        low_doubles(even_noise) + high_doubles(even_noise) + low_doubles(odd_noise) + high_doubles(odd_noise);
  }
};

/// Up to `turns` turns; ends before one that holds a value out of the table's reach. Returns how many were
/// done.
template <class Format>
[[gnu::noinline]] int64_t quantize_turns(const bfloat16* x, int64_t turns, const TableLanes& table,
                                         std::byte* codes, LaneSums& sums) {
  using Signs = int8_t __attribute__((vector_size(4 * kLanes)));
  constexpr int kStepBits = 7 - Format::kMantissa;
  ShortSums short_sums;
  int64_t turn = 0;
  for (; turn < turns; ++turn, x += kTableStep, codes += kTableStep) {
    const Halves a = load<Halves>(x);
    const Halves b = load<Halves>(x + 2 * kLanes);
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
    save(codes, in_order(size | (pack_signs(a, b) & table.sign_bit)));
    short_sums.add<Format>(size_a, low_bytes(size), table);
    short_sums.add<Format>(size_b, high_bytes(size), table);
  }
  short_sums.add_to(sums);
  return turn;
}

template <class Format>
inline void quantize_by_table(const QuantizeKind& kind, const QuantizeRun& run, const MantissaTable& table,
                              LaneSums& sums) {
  const auto* x = reinterpret_cast<const bfloat16*>(run.x);
  const TableLanes lanes = TableLanes::of<Format>(table);
  const int64_t turns = run.count / kTableStep;
  const auto take_long = [&](int64_t i, int64_t count) {
    const QuantizeRun part = {.x = run.x + 2 * i, .count = count, .scale = run.scale, .codes = run.codes + i};
    quantize_long<bfloat16, Format>(kind, part, sums);
  };
  for (int64_t turn = 0; turn < turns;) {
    const int64_t wanted = turns - turn < kTurnsPerSum ? turns - turn : kTurnsPerSum;
    const int64_t i = turn * kTableStep;
    const int64_t done = quantize_turns<Format>(x + i, wanted, lanes, run.codes + i, sums);
    turn += done;
    if (done == wanted) continue;
    take_long(turn * kTableStep, kTableStep);
    ++turn;
  }
  take_long(turns * kTableStep, run.count - turns * kTableStep);
}

template <class Format>
inline void quantize_format(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                            LaneSums& sums) {
  if (kind.from == DType::kBF16 && kind.quotient != QuotientKind::kRaw) {
    if (!table.made || table.scale != run.scale) make_table<Format>(kind, run.scale, table);
    if (table.usable) return quantize_by_table<Format>(kind, run, table, sums);
  }
  visit_real(kind.from, [&]<class T>() { quantize_long<T, Format>(kind, run, sums); });
}

inline void quantize(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                     QuantizeSums& sums) {
  LaneSums lane_sums;
  if (kind.to == DType::kF8E4M3) {
    quantize_format<E4M3>(kind, run, table, lane_sums);
  } else {
    quantize_format<E5M2>(kind, run, table, lane_sums);
  }
  lane_sums.add_to(sums);
}

// ---- rounding and widening ----

inline void convert(DType from, const std::byte* x, int64_t count, DType to, std::byte* y) {
  visit_real(from, [&]<class From>() {
    visit_real(to, [&]<class To>() {
      const auto* source = reinterpret_cast<const From*>(x);
      auto* target = reinterpret_cast<To*>(y);
      for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
        narrow_some(widen_some(source + i, n), target + i, n);
      });
    });
  });
}

inline void widen_run(DType from, const std::byte* x, int64_t count, float scale, float* y) {
  visit_any(from, [&]<class From>() {
    const auto* source = reinterpret_cast<const From*>(x);
    for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      narrow_some(scale * widen_some(source + i, n), y + i, n);
    });
  });
}

// ---- rows to lanes and back ----

inline constexpr int64_t kGroupBytes = 256;
using Words = uint32_t __attribute__((vector_size(16)));
struct FourRows {
  Words row[4];
};

inline FourRows transpose(const FourRows& in) {
  const Words low01 = __builtin_shufflevector(in.row[0], in.row[1], 0, 4, 1, 5);
  const Words high01 = __builtin_shufflevector(in.row[0], in.row[1], 2, 6, 3, 7);
  const Words low23 = __builtin_shufflevector(in.row[2], in.row[3], 0, 4, 1, 5);
  const Words high23 = __builtin_shufflevector(in.row[2], in.row[3], 2, 6, 3, 7);
  return {{__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
           __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
           __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
           __builtin_shufflevector(high01, high23, 2, 3, 6, 7)}};
}

/// Moves whole 4x4 words by `fast(row, word)` and the rest one by one by `slow(row, word)`.
template <class Fast, class Slow>
inline void for_words(const LaneBlock& block, Fast&& fast, Slow&& slow) {
  const int64_t whole_words = block.words & ~int64_t{3};
  const int64_t whole_rows = block.row_count & ~int64_t{3};
  for (int64_t w = 0; w < whole_words; w += 4) {
    for (int64_t r = 0; r < whole_rows; r += 4) fast(r, w);
  }
  for (int64_t w = 0; w < block.words; ++w) {
    for (int64_t r = w < whole_words ? whole_rows : 0; r < block.row_count; ++r) slow(r, w);
  }
}

inline void to_lanes(const LaneBlock& block) {
  const auto from = [&](int64_t r, int64_t w) { return block.rows + r * block.row_stride + 4 * w; };
  const auto into = [&](int64_t r, int64_t w) { return block.lanes + w * kGroupBytes + 4 * r; };
  for_words(
      block,
      [&](int64_t r, int64_t w) {
        FourRows four;
        for (int i = 0; i < 4; ++i) four.row[i] = load<Words>(from(r + i, w));
        four = transpose(four);
        for (int i = 0; i < 4; ++i) save(into(r, w + i), four.row[i]);
      },
      [&](int64_t r, int64_t w) { __builtin_memcpy(into(r, w), from(r, w), 4); });
}

inline void from_lanes(const LaneBlock& block) {
  const auto into = [&](int64_t r, int64_t w) { return block.rows + r * block.row_stride + 4 * w; };
  const auto from = [&](int64_t r, int64_t w) { return block.lanes + w * kGroupBytes + 4 * r; };
  for_words(
      block,
      [&](int64_t r, int64_t w) {
        FourRows four;
        for (int i = 0; i < 4; ++i) four.row[i] = load<Words>(from(r, w + i));
        four = transpose(four);
        for (int i = 0; i < 4; ++i) save(into(r + i, w), four.row[i]);
      },
      [&](int64_t r, int64_t w) { __builtin_memcpy(into(r, w), from(r, w), 4); });
}

}  // namespace lanes

inline constexpr QuantizeKernels kQuantizeKernels = {
    .abs_max = lanes::abs_max,
    .quantize = lanes::quantize,
    .convert = lanes::convert,
    .widen = lanes::widen_run,
    .to_lanes = lanes::to_lanes,
    .from_lanes = lanes::from_lanes,
};

}  // namespace octet::OCTET_ISA
