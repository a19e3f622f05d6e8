// SPDX-License-Identifier: Apache-2.0
/// The kernels of loading, written once over lanes-inl.h. Included by kernels_<isa>.cpp.
#pragma once

#include "octet/backend/cpu/quantize_table-inl.h"

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

/// The largest of 16-bit lanes.
inline int16_t largest(Halves value) {
  using Eight = int16_t __attribute__((vector_size(16)));
  const auto larger = [](Eight a, Eight b) { return a > b ? a : b; };
  int16_t lanes[2 * kLanes];
  save(lanes, value);
  Eight most = load<Eight>(lanes);
  for (int i = 8; i < 2 * kLanes; i += 8) most = larger(most, load<Eight>(lanes + i));
  most = larger(most, __builtin_shufflevector(most, most, 4, 5, 6, 7, 0, 1, 2, 3));
  most = larger(most, __builtin_shufflevector(most, most, 2, 3, 0, 1, 4, 5, 6, 7));
  return most[0] > most[1] ? most[0] : most[1];
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
  const int16_t result = largest((Halves)most);
  if (result >= 0x7f80) return abs_max_run<bfloat16>(x, count);
  return {__builtin_bit_cast(float, static_cast<int32_t>(result) << 16), 0};
}

inline AbsMax abs_max(DType dtype, const std::byte* x, int64_t count) {
  AbsMax result;
  visit_real(dtype, [&]<class T>() { result = abs_max_run(reinterpret_cast<const T*>(x), count); });
  return result;
}

// ---- quantizing ----

template <class Format, bool kCounted>
inline void quantize_format(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                            LaneSums& sums) {
  if (kind.from == DType::kBF16 && kind.quotient != QuotientKind::kRaw) {
    if (!table.made || table.scale != run.scale) make_table<Format>(kind, run.scale, table);
    if (table.usable) return quantize_by_table<Format, kCounted>(kind, run, table, sums);
  }
  const Divisor by(kind.quotient, run.scale);
  visit_real(kind.from, [&]<class T>() {
    for (int64_t row = 0; row < run.rows; ++row) {
      const auto* x = reinterpret_cast<const T*>(run.x + row * run.x_stride);
      quantize_long<T, Format>(kind, by, x, run.count, run.codes + row * run.codes_stride, sums);
    }
  });
}

template <bool kCounted>
inline void quantize_run(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                         LaneSums& sums) {
  if (kind.to == DType::kF8E4M3) {
    quantize_format<E4M3, kCounted>(kind, run, table, sums);
  } else {
    quantize_format<E5M2, kCounted>(kind, run, table, sums);
  }
}

inline void quantize(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                     QuantizeSums* sums) {
  LaneSums lane_sums;
  if (sums == nullptr) return quantize_run<false>(kind, run, table, lane_sums);
  quantize_run<true>(kind, run, table, lane_sums);
  lane_sums.add_to(*sums);
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
/// Rows of which one vector holds a word each.
inline constexpr int kWordRows = kLanes >= 4 ? kLanes : 4;
using Quad = uint32_t __attribute__((vector_size(16)));
using Eight = uint32_t __attribute__((vector_size(32)));
using Sixteen = uint32_t __attribute__((vector_size(64)));
/// Four words of 4, 8 or 16 rows: 128-bit lane i of row[j] is row 4 i + j.
template <int kRows>
struct WordRows {
  using Words = std::conditional_t<kRows == 4, Quad, std::conditional_t<kRows == 8, Eight, Sixteen>>;
  Words row[4];
};

/// Words 0, 0, 1, 1 of each 128-bit lane of a and b, words 2, 2, 3, 3; then pairs of words.
template <class V>
inline V interleave_low(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  } else if constexpr (sizeof(V) == 32) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
  } else {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  }
}
template <class V>
inline V interleave_high(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else if constexpr (sizeof(V) == 32) {
    return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  } else {
    return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
}
template <class V>
inline V low_pairs(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 0, 1, 4, 5);
  } else if constexpr (sizeof(V) == 32) {
    return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
  } else {
    return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  }
}
template <class V>
inline V high_pairs(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 2, 3, 6, 7);
  } else if constexpr (sizeof(V) == 32) {
    return __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  } else {
    return __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
}

/// 128-bit lane i from and to `step` bytes behind lane i - 1.
template <class V>
[[gnu::always_inline]] inline V load_quads(const std::byte* from, int64_t step) {
  if constexpr (sizeof(V) == 16) {
    return load<V>(from);
  } else if constexpr (sizeof(V) == 32) {
    return __builtin_shufflevector(load<Quad>(from), load<Quad>(from + step), 0, 1, 2, 3, 4, 5, 6, 7);
  } else {
    const auto half = load_quads<Eight>(from, step);
    const auto other = load_quads<Eight>(from + 2 * step, step);
    return __builtin_shufflevector(half, other, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
}
template <class V>
[[gnu::always_inline]] inline void save_quads(V v, std::byte* into, int64_t step) {
  if constexpr (sizeof(V) == 16) {
    save(into, v);
  } else if constexpr (sizeof(V) == 32) {
    save(into, __builtin_shufflevector(v, v, 0, 1, 2, 3));
    save(into + step, __builtin_shufflevector(v, v, 4, 5, 6, 7));
  } else {
    save_quads(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7), into, step);
    save_quads(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15), into + 2 * step, step);
  }
}

/// Within each 128-bit lane.
template <int kRows>
[[gnu::always_inline]] inline void transpose(WordRows<kRows>& rows) {
  const auto low01 = interleave_low(rows.row[0], rows.row[1]);
  const auto high01 = interleave_high(rows.row[0], rows.row[1]);
  const auto low23 = interleave_low(rows.row[2], rows.row[3]);
  const auto high23 = interleave_high(rows.row[2], rows.row[3]);
  rows.row[0] = low_pairs(low01, low23);
  rows.row[1] = high_pairs(low01, low23);
  rows.row[2] = low_pairs(high01, high23);
  rows.row[3] = high_pairs(high01, high23);
}

/// Moves rows x 4 words by `fast<rows>(row, word)` where they are whole, and the rest one by one by
/// `slow(row, word)`.
template <class Fast, class Slow>
inline void for_words(const LaneBlock& block, Fast&& fast, Slow&& slow) {
  constexpr int kFewer = kWordRows > 8 ? 8 : kWordRows;
  const int64_t whole_words = block.words & ~int64_t{3};
  const int64_t whole_rows = block.row_count / kFewer * kFewer;
  for (int64_t w = 0; w < whole_words; w += 4) {
    int64_t r = 0;
    for (; r + kWordRows <= whole_rows; r += kWordRows) fast.template operator()<kWordRows>(r, w);
    for (; r < whole_rows; r += kFewer) fast.template operator()<kFewer>(r, w);
  }
  for (int64_t w = 0; w < block.words; ++w) {
    for (int64_t r = w < whole_words ? whole_rows : 0; r < block.row_count; ++r) slow(r, w);
  }
}

/// Whole cache lines past the cache: nobody reads them soon.
template <bool kStream>
inline void rows_to_lanes(const LaneBlock& block) {
  const auto from = [&](int64_t r, int64_t w) { return block.rows + r * block.row_stride + 4 * w; };
  const auto into = [&](int64_t r, int64_t w) { return block.lanes + w * kGroupBytes + 4 * r; };
  for_words(
      block,
      [&]<int kRows>(int64_t r, int64_t w) __attribute__((always_inline)) {
        WordRows<kRows> rows;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          rows.row[i] = load_quads<typename WordRows<kRows>::Words>(from(r + i, w), 4 * block.row_stride);
        transpose(rows);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          if constexpr (kStream) {
            stream(into(r, w + i), rows.row[i]);
          } else {
            save(into(r, w + i), rows.row[i]);
          }
        }
      },
      [&](int64_t r, int64_t w) { __builtin_memcpy(into(r, w), from(r, w), 4); });
}

inline void to_lanes(const LaneBlock& block) {
  constexpr int64_t kLine = 64;
  const bool aligned = reinterpret_cast<uintptr_t>(block.lanes) % kLine == 0;
  const bool whole_lines = aligned && 4 * block.row_count % kLine == 0;
  if (!whole_lines) return rows_to_lanes<false>(block);
  rows_to_lanes<true>(block);
}

inline void from_lanes(const LaneBlock& block) {
  const auto into = [&](int64_t r, int64_t w) { return block.rows + r * block.row_stride + 4 * w; };
  const auto from = [&](int64_t r, int64_t w) { return block.lanes + w * kGroupBytes + 4 * r; };
  for_words(
      block,
      [&]<int kRows>(int64_t r, int64_t w) __attribute__((always_inline)) {
        WordRows<kRows> rows;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) rows.row[i] = load<typename WordRows<kRows>::Words>(from(r, w + i));
        transpose(rows);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) save_quads(rows.row[i], into(r + i, w), 4 * block.row_stride);
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
    .end_of_lanes = lanes::end_of_stream,
    .from_lanes = lanes::from_lanes,
};

}  // namespace octet::OCTET_ISA
