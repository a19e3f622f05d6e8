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
/// Four words of as many rows as fit a vector of at most 32 bytes: 128-bit lane i of row[j] is row 4 i + j.
inline constexpr int64_t kWordRows = kLanes >= 8 ? 8 : 4;
using Words = uint32_t __attribute__((vector_size(4 * kWordRows)));
using Quad = uint32_t __attribute__((vector_size(16)));
struct WordRows {
  Words row[4];
};

/// Words 0, 0, 1, 1 of each 128-bit lane of a and b, words 2, 2, 3, 3; then pairs of words.
template <class V>
inline V interleave_low(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  } else {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
  }
}
template <class V>
inline V interleave_high(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else {
    return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  }
}
template <class V>
inline V low_pairs(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 0, 1, 4, 5);
  } else {
    return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
  }
}
template <class V>
inline V high_pairs(V a, V b) {
  if constexpr (sizeof(V) == 16) {
    return __builtin_shufflevector(a, b, 2, 3, 6, 7);
  } else {
    return __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
}

/// Each 128-bit lane from and to its own place; `second` is `first` where there is but one.
template <class V>
inline V load_quads(const std::byte* first, const std::byte* second) {
  if constexpr (sizeof(V) == 16) {
    return load<V>(first);
  } else {
    return __builtin_shufflevector(load<Quad>(first), load<Quad>(second), 0, 1, 2, 3, 4, 5, 6, 7);
  }
}
template <class V>
inline void save_quads(V v, std::byte* first, std::byte* second) {
  if constexpr (sizeof(V) == 16) {
    save(first, v);
  } else {
    save(first, __builtin_shufflevector(v, v, 0, 1, 2, 3));
    save(second, __builtin_shufflevector(v, v, 4, 5, 6, 7));
  }
}

/// Within each 128-bit lane.
[[gnu::always_inline]] inline void transpose(WordRows& rows) {
  const Words low01 = interleave_low(rows.row[0], rows.row[1]);
  const Words high01 = interleave_high(rows.row[0], rows.row[1]);
  const Words low23 = interleave_low(rows.row[2], rows.row[3]);
  const Words high23 = interleave_high(rows.row[2], rows.row[3]);
  rows.row[0] = low_pairs(low01, low23);
  rows.row[1] = high_pairs(low01, low23);
  rows.row[2] = low_pairs(high01, high23);
  rows.row[3] = high_pairs(high01, high23);
}

/// Moves kWordRows x 4 words by `fast(row, word)` where they are whole, and the rest one by one by `slow(row,
/// word)`.
template <class Fast, class Slow>
inline void for_words(const LaneBlock& block, Fast&& fast, Slow&& slow) {
  const int64_t whole_words = block.words & ~int64_t{3};
  const int64_t whole_rows = block.row_count & ~(kWordRows - 1);
  for (int64_t w = 0; w < whole_words; w += 4) {
    for (int64_t r = 0; r < whole_rows; r += kWordRows) fast(r, w);
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
      [&](int64_t r, int64_t w) {
        WordRows rows;
        for (int i = 0; i < 4; ++i) {
          rows.row[i] = load_quads<Words>(from(r + i, w), from(r + i + kWordRows - 4, w));
        }
        transpose(rows);
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
      [&](int64_t r, int64_t w) {
        WordRows rows;
        for (int i = 0; i < 4; ++i) rows.row[i] = load<Words>(from(r, w + i));
        transpose(rows);
        for (int i = 0; i < 4; ++i) {
          save_quads(rows.row[i], into(r + i, w), into(r + i + kWordRows - 4, w));
        }
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
