// SPDX-License-Identifier: Apache-2.0
/// Attention over the paged cache, written once over lanes-inl.h: the online softmax in chunks of keys. Each
/// score, each weight and each output is computed by the same operations in the same order whichever queries
/// share its tile, so a query's bits depend on its own sequence alone.
#pragma once

#include "octet/backend/cpu/attention_cache-inl.h"

namespace octet::OCTET_ISA {
namespace lanes {

inline constexpr float kMinusInfinity = -__builtin_inff();

/// from, so that compilers read there again: kept in registers it would push out sums.
template <class T>
[[gnu::always_inline]] inline const T* read_anew(const T* from) {
  asm("" : "+r"(from));
  return from;
}

/// Keys that are scored together: as many sums as hide the latency of a multiply-add and stay in registers.
constexpr int keys_at_once(int queries) {
  return queries == 4 ? (kLanes == 16 ? 4 : 3) : 8 / queries;
}

/// Dot products of `kQueries` queries with kKeys keys each, from key j of the chunk on.
template <int kQueries, int kKeys, class Rows>
[[gnu::always_inline]] inline void score_block(const float* q, const Rows& rows, int64_t j, int64_t stride,
                                               float* scores) {
  using Group = lanes::Group<typename Rows::Element>;
  constexpr int kApart = kKeys == 3 ? 4 : kKeys;  // so that no query's sums end up in two vectors
  constexpr int kSums = (kQueries * kApart + kLanes - 1) / kLanes * kLanes;
  F32 sums[kSums] = {};
  const auto add = [&](const F32(&key)[kKeys], int64_t d) __attribute__((always_inline)) {
    for (int m = 0; m < kQueries; ++m) {
      add_products<kKeys>(q + m * stride + d, key, sums + m * kApart);
    }
  };
  const typename Rows::Element* vectors[kKeys];
  for (int k = 0; k < kKeys; ++k) vectors[k] = rows.vector(j + k);
  F32 key[kKeys];
  int64_t d = 0;
  for (; d < rows.grouped_size(); d += Group::kVectors * kLanes) {
#pragma GCC unroll 4
    for (int p = 0; p < Group::kVectors; ++p) {
      for (int k = 0; k < kKeys; ++k) key[k] = Group(read_anew(vectors[k]) + d).vector(p);
      add(key, d + p * kLanes);
    }
  }
  for (; d < stride; d += kLanes) {
    for (int k = 0; k < kKeys; ++k) key[k] = widen_in_order(vectors[k] + d);
    add(key, d);
  }
  float dots[kSums];
  for (int i = 0; i < kSums; i += kLanes) save(dots + i, sum_each(sums + i));
  for (int m = 0; m < kQueries; ++m) {
    __builtin_memcpy(scores + m * kChunkKeys + j, dots + m * kApart, kKeys * sizeof(float));
  }
}

template <int kQueries, class Rows>
[[gnu::noinline]] void score_queries(const AttentionTile& tile, const AttentionScratch& scratch, int first,
                                     Span span, const Rows& rows) {
  constexpr int kKeys = keys_at_once(kQueries);
  const int64_t stride = padded(tile.head_dim);
  const float* q = scratch.q + first * stride;
  float* scores = scratch.scores + first * kChunkKeys;
  const auto score = [&]<int kCount>(int64_t j) __attribute__((always_inline)) {
    for (int64_t k = j; first == 0 && k < j + kCount; ++k) rows.prefetch(k);
    score_block<kQueries, kCount>(q, rows, j, stride, scores);
  };
  int64_t j = span.begin;
  const auto left = [&] { return span.end - j; };
  // Four are two and two rather than three and one, whose sums would wait for each other.
  for (; left() >= kKeys && (kKeys != 3 || left() != 4); j += kKeys) score.template operator()<kKeys>(j);
  for (; j + 2 <= span.end; j += 2) score.template operator()<2>(j);
  if (j < span.end) score.template operator()<1>(j);
}

template <class Rows>
inline void score_chunk(const AttentionTile& tile, const AttentionScratch& scratch, Span span,
                        const Rows& rows) {
  int m = 0;
  for (; m + 4 <= tile.count; m += 4) score_queries<4>(tile, scratch, m, span, rows);
  if (m + 2 <= tile.count) {
    score_queries<2>(tile, scratch, m, span, rows);
    m += 2;
  }
  if (m < tile.count) score_queries<1>(tile, scratch, m, span, rows);
}

/// Turns the dot products of one query into weights relative to the largest score so far and scales what was
/// summed before.
template <class T>
inline void soften(const AttentionTile& tile, const AttentionScratch& scratch, Span span,
                   const AttentionState& state, int m) {
  float* scores = scratch.scores + m * kChunkKeys;
  const bool whole = span.end - span.begin == kChunkKeys;
  F32 most = splat(kMinusInfinity);
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    F32 score = load<F32>(scores + j) * Units<T>::kScore * tile.scale;
    if constexpr (sizeof(T) == 1) score *= load<F32>(scratch.key_scales + j);
    if (!whole) {
      const I32 number = lane_numbers() + static_cast<int32_t>(j);
      const I32 seen =
          (number >= static_cast<int32_t>(span.begin)) & (number < static_cast<int32_t>(span.end));
      score = seen ? score : splat(kMinusInfinity);
    }
    save(scores + j, score);
    most = max(score, most);
  }
  const float before = state.largest[m];
  const float chunk_largest = largest(most);
  const float now = chunk_largest > before ? chunk_largest : before;
  F32 total{};
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    F32 weight = exp_below_one(load<F32>(scores + j) - now);
    total += weight;
    if constexpr (sizeof(T) == 1) weight *= load<F32>(scratch.value_scales + j);
    save(scores + j, weight);
  }
  const float sum = sum_of_lanes(total);
  const float shrink = before < now ? exp_below_one(splat(before - now))[0] : 1.0F;
  state.sum[m] = state.sum[m] * shrink + sum;
  state.largest[m] = now;
  if (shrink == 1.0F) return;
  float* out = state.out + m * padded(tile.head_dim);
  for (int64_t d = 0; d < padded(tile.head_dim); d += kLanes) save(out + d, load<F32>(out + d) * shrink);
}

/// out += weights * values for kQueries queries and kGroups groups of columns from d on: of each group the
/// vectors kFirst, kFirst + kStep, ...
template <int kQueries, int kGroups, int kFirst, int kStep, class Rows>
[[gnu::noinline]] void add_values(const float* weights, const Rows& rows, Span span, int64_t d,
                                  int64_t stride, float* out) {
  using Group = lanes::Group<typename Rows::Element>;
  constexpr int kParts = Group::kVectors / kStep;
  constexpr int kVectors = kGroups * kParts;
  const auto place = [&](int v) __attribute__((always_inline)) {
    return d + (v / kParts * Group::kVectors + kFirst + v % kParts * kStep) * kLanes;
  };
  F32 sums[kQueries][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[m][v] = load<F32>(out + m * stride + place(v));
  }
  for (int64_t j = span.begin; j < span.end; ++j) {
    const typename Rows::Element* vector = rows.vector(j);
    if (kFirst == 0) rows.prefetch_at(j, d);
    F32 value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      value[v] =
          Group(vector + d + v / kParts * Group::kVectors * kLanes).vector(kFirst + v % kParts * kStep);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kQueries; ++m) {
      const float* weight = weights + m * kChunkKeys + j;
      if constexpr (kVectors == 1) {
        sums[m][0] = fma(splat(*weight), value[0], sums[m][0]);
      } else {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v += 2) {
          add_scaled(weight, value[v], value[v + 1], sums[m][v], sums[m][v + 1]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kQueries; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) save(out + m * stride + place(v), sums[m][v]);
  }
}
/// The same for one vector of columns that are in no group.
template <int kQueries, class Rows>
inline void add_rest(const float* weights, const Rows& rows, Span span, int64_t d, int64_t stride,
                     float* out) {
  for (int m = 0; m < kQueries; ++m) {
    F32 sum = load<F32>(out + m * stride + d);
    for (int64_t j = span.begin; j < span.end; ++j) {
      sum = fma(splat(weights[m * kChunkKeys + j]), widen_in_order(rows.vector(j) + d), sum);
    }
    save(out + m * stride + d, sum);
  }
}

template <int kQueries, class Rows>
inline void add_value_columns(const AttentionTile& tile, const AttentionScratch& scratch,
                              const AttentionState& state, int first, Span span, Span columns,
                              const Rows& rows) {
  constexpr int kOfGroup = Group<typename Rows::Element>::kVectors;
  constexpr int kAtOnce = kQueries >= 4 ? 2 : 4;  // vectors: their sums have to stay in registers
  constexpr int kGroups = kAtOnce > kOfGroup ? kAtOnce / kOfGroup : 1;
  constexpr int kStep = kAtOnce < kOfGroup ? kOfGroup / kAtOnce : 1;
  constexpr int64_t kColumns = kOfGroup * kLanes;
  const int64_t stride = padded(tile.head_dim);
  const float* weights = scratch.scores + first * kChunkKeys;
  float* out = state.out + first * stride;
  const int64_t end = rows.grouped_size() < columns.end ? rows.grouped_size() : columns.end;
  int64_t d = columns.begin;
  for (; d + kGroups * kColumns <= end; d += kGroups * kColumns) {
    add_values<kQueries, kGroups, 0, kStep>(weights, rows, span, d, stride, out);
    if constexpr (kStep > 1) add_values<kQueries, kGroups, 1, kStep>(weights, rows, span, d, stride, out);
  }
  for (; d < end; d += kColumns) {
    add_values<kQueries, 1, 0, kStep>(weights, rows, span, d, stride, out);
    if constexpr (kStep > 1) add_values<kQueries, 1, 1, kStep>(weights, rows, span, d, stride, out);
  }
  for (; d < columns.end; d += kLanes) add_rest<kQueries>(weights, rows, span, d, stride, out);
}

/// How many queries from `first` on are taken together: 6, 4, 2 or 1 that see the same keys of this chunk.
inline int same_spans(const AttentionTile& tile, int first, int64_t chunk) {
  const Span one = span_in_chunk(tile.begin[first], tile.end[first], chunk);
  int count = 1;
  for (; count < 6 && first + count < tile.count; ++count) {
    const Span other = span_in_chunk(tile.begin[first + count], tile.end[first + count], chunk);
    if (other.begin != one.begin || other.end != one.end) break;
  }
  return count == 1 ? 1 : count / 2 * 2;
}

/// `part`: the keys of the chunk that `rows` has; `columns`: of their vectors.
template <class Rows>
inline void add_chunk(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                      const AttentionState& state, Span part, Span columns, const Rows& rows) {
  for (int m = 0; m < tile.count;) {
    Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
    const int same = same_spans(tile, m, chunk);
    span.begin = span.begin > part.begin ? span.begin : part.begin;
    span.end = span.end < part.end ? span.end : part.end;
    if (span.begin < span.end) {
      if (same == 6) add_value_columns<6>(tile, scratch, state, m, span, columns, rows);
      if (same == 4) add_value_columns<4>(tile, scratch, state, m, span, columns, rows);
      if (same == 2) add_value_columns<2>(tile, scratch, state, m, span, columns, rows);
      if (same == 1) add_value_columns<1>(tile, scratch, state, m, span, columns, rows);
    }
    m += same;
  }
}

/// The queries in the order of the cache's vectors, padded with zeros.
template <class T>
inline void copy_queries(const AttentionTile& tile, float* into) {
  for (int m = 0; m < tile.count; ++m, into += padded(tile.head_dim)) {
    const float* q = tile.q[m];
    for_places<T>(tile.head_dim, [&](int64_t place, int64_t element) __attribute__((always_inline)) {
      into[place] = q[element] * Units<T>::kQuery;
    });
    for (int64_t d = tile.head_dim; d < padded(tile.head_dim); ++d) into[d] = 0.0F;
  }
}

/// The keys of one partition that any query of the tile sees.
inline Span seen_keys(const AttentionTile& tile, int64_t index) {
  Span seen = {tile.begin[0], tile.end[0]};
  for (int m = 1; m < tile.count; ++m) {
    seen.begin = tile.begin[m] < seen.begin ? tile.begin[m] : seen.begin;
    seen.end = tile.end[m] > seen.end ? tile.end[m] : seen.end;
  }
  const int64_t first = index * kPartitionKeys;
  return {seen.begin > first ? seen.begin : first,
          seen.end < first + kPartitionKeys ? seen.end : first + kPartitionKeys};
}

/// Whether the vectors of a chunk are widened where they are used: few queries share them then.
inline bool used_from_cache(const AttentionTile& tile) {
  return tile.count <= 8 && tile.head_dim % kHeadPadding == 0;
}

/// One chunk: its scores become weights by `soften_all`, then its values are added.
template <class T, class Soften>
inline void attend_cached(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                          const AttentionState& state, Span all, Soften&& soften_all) {
  for_blocks<T>(tile, chunk, all, true,
                [&](Span part, const CachedRows<T>& rows) { score_chunk(tile, scratch, part, rows); });
  soften_all();
  for_blocks<T>(tile, chunk, all, false, [&](Span part, const CachedRows<T>& rows) {
    add_chunk(tile, chunk, scratch, state, part, {0, padded(tile.head_dim)}, rows);
  });
}

/// The chunk's values in float32; those whose scale is too large to be in a weight have it already.
template <class T>
inline void widen_scaled_values(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                                Span all) {
  const int64_t size = padded(tile.head_dim);
  widen_chunk<T>(tile, chunk, all, false, scratch.values);
  for (int64_t j = all.begin; j < all.end; ++j) {
    float& scale = scratch.value_scales[j];
    if (scale < kLargestWeightScale) {
      scale *= Units<T>::kWeight;
      continue;
    }
    float* row = scratch.values + j * widened_stride(size);
    for (int64_t d = 0; d < size; d += kLanes) {
      save(row + d, load<F32>(row + d) * scale * Units<T>::kWeight);
    }
    scale = 1.0F;
  }
}

/// Calls body(part) for parts of `all`, of `size` keys or columns: as many as stay in the first cache while
/// all queries use them.
template <class Body>
inline void for_parts(Span all, int64_t size, Body&& body) {
  for (int64_t j = all.begin; j < all.end; j += size) body(Span{j, j + size < all.end ? j + size : all.end});
}

/// The same over rows of float32. `values_are_there`: by widen_scaled_values.
template <class T, class Soften>
inline void attend_widened(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                           const AttentionState& state, Span all, Soften&& soften_all,
                           bool values_are_there) {
  const bool latent = tile.values == tile.keys;  // a key is its value, too, and is widened once
  const int64_t stride = padded(tile.head_dim);
  widen_chunk<T>(tile, chunk, all, true, scratch.keys);
  const WidenedRows keys = {scratch.keys, stride};
  for_parts(all, 32, [&](Span part) { score_chunk(tile, scratch, part, keys); });
  soften_all();
  const bool keys_are_values = latent && !values_are_there;
  if (!latent && !values_are_there) widen_chunk<T>(tile, chunk, all, false, scratch.values);
  const WidenedRows values = {keys_are_values ? scratch.keys : scratch.values, stride};
  for_parts({0, stride}, 64,
            [&](Span columns) { add_chunk(tile, chunk, scratch, state, all, columns, values); });
}

/// Gathers what FP8 needs beside the codes. Returns whether the values' scales fit into the weights; else the
/// values are widened here.
template <class T>
inline bool prepare_scales(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                           Span all) {
  if constexpr (sizeof(T) > 1) return true;
  const bool latent = tile.values == tile.keys;
  gather_scales(tile, tile.key_scales, chunk, all, scratch.key_scales);
  if (!gather_scales(tile, latent ? tile.key_scales : tile.value_scales, chunk, all, scratch.value_scales)) {
    widen_scaled_values<T>(tile, chunk, scratch, all);
    return false;
  }
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    save(scratch.value_scales + j, load<F32>(scratch.value_scales + j) * Units<T>::kWeight);
  }
  return true;
}

template <class T>
inline void attend_partition(const AttentionTile& tile, int64_t index, const AttentionScratch& scratch,
                             const AttentionState& state) {
  const Span seen = seen_keys(tile, index);
  for (int m = 0; m < tile.count; ++m) {
    state.largest[m] = kMinusInfinity;
    state.sum[m] = 0.0F;
  }
  const auto values = static_cast<size_t>(tile.count * padded(tile.head_dim));
  __builtin_memset(state.out, 0, values * sizeof(float));
  if (seen.begin >= seen.end) return;
  copy_queries<T>(tile, scratch.q);
  for (int64_t chunk = seen.begin / kChunkKeys; chunk * kChunkKeys < seen.end; ++chunk) {
    const Span all = span_in_chunk(seen.begin, seen.end, chunk);
    const auto soften_all = [&] {
      for (int m = 0; m < tile.count; ++m) {
        const Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
        if (span.begin < span.end) soften<T>(tile, scratch, span, state, m);
      }
    };
    const bool fitting = prepare_scales<T>(tile, chunk, scratch, all);
    if (fitting && used_from_cache(tile)) {
      attend_cached<T>(tile, chunk, scratch, state, all, soften_all);
    } else {
      attend_widened<T>(tile, chunk, scratch, state, all, soften_all, !fitting);
    }
  }
}

inline void attend_any_partition(const AttentionTile& tile, int64_t index, const AttentionScratch& scratch,
                                 const AttentionState& state) {
  visit_any(tile.dtype, [&]<class T>() { attend_partition<T>(tile, index, scratch, state); });
}

inline void merge_states(const AttentionTile& tile, const AttentionState& part, const AttentionState& into) {
  for (int m = 0; m < tile.count; ++m) {
    if (part.sum[m] == 0.0F) continue;  // saw no key
    const float now = part.largest[m] > into.largest[m] ? part.largest[m] : into.largest[m];
    const float of_part = exp(splat(part.largest[m] - now))[0];
    const float of_into = exp(splat(into.largest[m] - now))[0];
    into.sum[m] = into.sum[m] * of_into + part.sum[m] * of_part;
    into.largest[m] = now;
    const int64_t begin = m * padded(tile.head_dim);
    for (int64_t d = begin; d < begin + padded(tile.head_dim); d += kLanes) {
      save(into.out + d, load<F32>(into.out + d) * of_into + load<F32>(part.out + d) * of_part);
    }
  }
}

template <class T>
inline void finish_rows(const AttentionTile& tile, const AttentionState& state) {
  for (int m = 0; m < tile.count; ++m) {
    float* out = state.out + m * padded(tile.head_dim);
    for (int64_t d = 0; d < padded(tile.head_dim); d += kLanes) {
      save(out + d, load<F32>(out + d) / state.sum[m] * Units<T>::kOut);
    }
    float* y = tile.y[m];
    for_places<T>(tile.head_dim, [&](int64_t place, int64_t element)
                                     __attribute__((always_inline)) { y[element] = out[place]; });
  }
}

inline void finish_state(const AttentionTile& tile, const AttentionState& state) {
  visit_any(tile.dtype, [&]<class T>() { finish_rows<T>(tile, state); });
}

}  // namespace lanes

inline constexpr AttentionKernels kAttentionKernels = {
    .partition = lanes::attend_any_partition,
    .merge = lanes::merge_states,
    .finish = lanes::finish_state,
};

}  // namespace octet::OCTET_ISA
