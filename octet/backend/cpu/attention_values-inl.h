// SPDX-License-Identifier: Apache-2.0
/// Sums of weighted values: strips of a few vectors, whose sums stay in registers while a chunk's keys pass.
#pragma once

#include "octet/backend/cpu/attention_scores-inl.h"

namespace octet::OCTET_ISA::lanes {

/// What a strip adds: values of the keys in `span`, weights [kQueries, kChunkKeys].
struct StripWork {
  const float* weights;
  Span span;
  int64_t stride;  // of out
  float* out;
  bool asks;  // for what is needed next
};

/// Vectors that are summed at once. Of float32 in the cache whole lines: a line that is asked for twice costs
/// more than sums that wait for each other.
template <class Rows>
constexpr int vectors_at_once(int queries) {
  constexpr bool kLines = __is_same(typename Rows::Element, float) && !__is_same(Rows, WidenedRows);
  if (queries >= 3) return queries == 6 || kLines ? 2 : 3;
  return queries == 2 ? 4 : kLanes == 16 ? 8 : 6;
}

/// out += weights * values for kQueries queries and kVectors vectors from vector `first` on, which is number
/// kFirst of its group.
template <int kQueries, int kVectors, int kFirst, class Rows>
[[gnu::noinline]] void add_strip(const StripWork& work, const Rows& rows, int64_t first) {
  using T = typename Rows::Element;
  constexpr int kOfGroup = Group<T>::kVectors;
  float* out = work.out + first * kLanes;
  F32 sums[kQueries][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[m][v] = load<F32>(out + m * work.stride + v * kLanes);
  }
  const T* row = rows.vector(work.span.begin) + (first - kFirst) * kLanes;
  const float* weight = work.weights + work.span.begin;
  const float* end = work.weights + work.span.end;
  const int64_t stride = rows.stride();
  Asking<Rows> asking(rows, work.asks, first * kLanes * (work.span.end - work.span.begin));
  for (; weight < end; ++weight, row += stride) {
    asking.next(kVectors * kLanes);
    const KeptBits<T> kept;
    F32 value[kVectors];
    for_each_vector<kVectors>([&]<int v>() __attribute__((always_inline)) {
      constexpr int kNumber = kFirst + v;
      value[v] = vector_in_place<T, kNumber % kOfGroup>(row + kNumber / kOfGroup * kOfGroup * kLanes, kept);
    });
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) add_scaled<kVectors>(weight + m * kChunkKeys, value, sums[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) save(out + m * work.stride + v * kLanes, sums[m][v]);
  }
}

/// The same for one vector of columns that are in no group.
template <int kQueries, class Rows>
inline void add_rest(const StripWork& work, const Rows& rows, int64_t d) {
  for (int m = 0; m < kQueries; ++m) {
    float* out = work.out + m * work.stride + d;
    F32 sum = load<F32>(out);
    for (int64_t j = work.span.begin; j < work.span.end; ++j) {
      sum = fma(splat(work.weights[m * kChunkKeys + j]), widen_in_order(rows.vector(j) + d), sum);
    }
    save(out, sum);
  }
}

/// add_strip for a vector of any number in its group.
template <int kQueries, int kVectors, class Rows, int kFirst = 0>
inline void add_strip_at(const StripWork& work, const Rows& rows, int64_t first) {
  constexpr int kOfGroup = Group<typename Rows::Element>::kVectors;
  if constexpr (kFirst + 1 < kOfGroup) {
    if (first % kOfGroup != kFirst) {
      return add_strip_at<kQueries, kVectors, Rows, kFirst + 1>(work, rows, first);
    }
  }
  add_strip<kQueries, kVectors, kFirst>(work, rows, first);
}

template <int kQueries, class Rows>
inline void add_value_columns(const StripWork& work, const Rows& rows, Span columns) {
  constexpr int kAtOnce = vectors_at_once<Rows>(kQueries);
  const int64_t end = (rows.grouped_size() < columns.end ? rows.grouped_size() : columns.end) / kLanes;
  int64_t v = columns.begin / kLanes;
  const auto left = [&] { return end - v; };
  // Four are two and two rather than three and one, whose sums would wait for each other.
  for (; left() >= kAtOnce && (kAtOnce != 3 || left() != 4); v += kAtOnce) {
    add_strip_at<kQueries, kAtOnce>(work, rows, v);
  }
  for (; left() >= 2; v += 2) add_strip_at<kQueries, 2>(work, rows, v);
  if (left() == 1) add_strip_at<kQueries, 1>(work, rows, v++);
  for (int64_t d = v * kLanes; d < columns.end; d += kLanes) add_rest<kQueries>(work, rows, d);
}

/// How many queries from `first` on are taken together: 6, 4, 3 or 2 that see the same keys of this chunk, so
/// that of those that do none is left alone; 1 that no other follows.
inline int same_spans(const AttentionTile& tile, int first, int64_t chunk) {
  const Span one = span_in_chunk(tile.begin[first], tile.end[first], chunk);
  int count = 1;
  for (; count < 7 && first + count < tile.count; ++count) {
    const Span other = span_in_chunk(tile.begin[first + count], tile.end[first + count], chunk);
    if (other.begin != one.begin || other.end != one.end) break;
  }
  return count == 7 ? 4 : count == 5 ? 3 : count;
}

/// `part`: the keys of the chunk that `rows` has; `columns`: of their vectors.
template <class Rows>
inline void add_chunk(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                      const AttentionState& state, Span part, Span columns, const Rows& rows) {
  const int64_t stride = padded(tile.head_dim);
  for (int m = 0; m < tile.count;) {
    Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
    const int same = same_spans(tile, m, chunk);
    span.begin = span.begin > part.begin ? span.begin : part.begin;
    span.end = span.end < part.end ? span.end : part.end;
    if (span.begin < span.end) {
      const StripWork work = {scratch.scores + m * kChunkKeys, span, stride, state.out + m * stride, m == 0};
      if (same == 6) add_value_columns<6>(work, rows, columns);
      if (same == 4) add_value_columns<4>(work, rows, columns);
      if (same == 3) add_value_columns<3>(work, rows, columns);
      if (same == 2) add_value_columns<2>(work, rows, columns);
      if (same == 1) add_value_columns<1>(work, rows, columns);
    }
    m += same;
  }
}

}  // namespace octet::OCTET_ISA::lanes
