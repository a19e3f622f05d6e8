// SPDX-License-Identifier: Apache-2.0
/// Attention over the paged cache, written once over lanes-inl.h: the online softmax in chunks of keys. Each
/// score, each weight and each output is computed by the same operations in the same order whichever queries
/// share its tile, so a query's bits depend on its own sequence alone.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/ops_kernels.h"

namespace octet::OCTET_ISA {
namespace lanes {

inline constexpr float kMinusInfinity = -__builtin_inff();

inline int64_t padded(int64_t head_dim) {
  return (head_dim + kHeadPadding - 1) / kHeadPadding * kHeadPadding;
}

/// The keys [begin, end) of a chunk, counted from its first.
struct Span {
  int64_t begin;
  int64_t end;
};
inline Span span_in_chunk(int64_t begin, int64_t end, int64_t chunk) {
  const int64_t first = chunk * kChunkKeys;
  return {begin > first ? begin - first : 0, end < first + kChunkKeys ? end - first : kChunkKeys};
}

/// Index of the key's vector (and of its scale) in the cache.
inline int64_t vector_of(const AttentionTile& tile, int64_t position) {
  const int64_t block = tile.blocks[position / tile.block_size];
  return (block * tile.heads + tile.head) * tile.block_size + position % tile.block_size;
}

inline void prefetch_bytes(const std::byte* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/// scale * codes, for the codes that kv_store writes: finite ones. The bits of a code moved to those of a
/// float32 make its value times a power of two, which the scale takes back; a scale too large for that goes
/// the long way.
template <class T>
inline F32 widen_scaled(const T* from, float scale) {
  return widen(from) * scale;
}
template <int kExponentBits>
inline F32 widen_code_bits(const void* from, float scale) {
  constexpr int32_t kKept = static_cast<int32_t>(0x80000000U | (0x7fU << (16 + kExponentBits)));
  const I32 codes = load_signed_bytes(from);  // copies of the sign before it
  return as_float((codes << (16 + kExponentBits)) & kKept) * scale;
}
inline constexpr float kLargestShiftedScale = 128.0F;
inline F32 widen_shifted(const float8_e4m3* from, float scale) {
  return widen_code_bits<4>(from, scale * 0x1p120F);
}
inline F32 widen_shifted(const float8_e5m2* from, float scale) {
  return widen_code_bits<5>(from, scale * 0x1p112F);
}

/// One vector of the cache to a row of float32, padded with zeros.
template <class T>
inline void widen_vector(const T* from, int64_t head_dim, float scale, float* into) {
  int64_t d = 0;
  if constexpr (sizeof(T) == 1) {
    if (scale < kLargestShiftedScale) {
      for (; d + kLanes <= head_dim; d += kLanes) save(into + d, widen_shifted(from + d, scale));
    }
    for (; d + kLanes <= head_dim; d += kLanes) save(into + d, widen_scaled(from + d, scale));
  } else {
    for (; d + kLanes <= head_dim; d += kLanes) save(into + d, widen(from + d));
  }
  if (d < head_dim) save(into + d, widen_part(from + d, head_dim - d) * scale);
  for (d = d < head_dim ? d + kLanes : d; d < padded(head_dim); d += kLanes) save(into + d, F32{});
}

/// Widens the vectors of a chunk, block by block of the cache; those needed next are asked for meanwhile: the
/// chunk's values, or the keys that follow it.
template <class T>
inline void widen_chunk(const AttentionTile& tile, int64_t chunk, Span span, bool is_keys, float* rows) {
  const std::byte* data = is_keys ? tile.keys : tile.values;
  const std::byte* other = is_keys ? tile.values : tile.keys;
  const int64_t ahead_by = is_keys || tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys ? 0 : kChunkKeys;
  const float* scales = is_keys ? tile.key_scales : tile.value_scales;
  const int64_t bytes = tile.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t j = span.begin; j < span.end;) {
    const int64_t position = chunk * kChunkKeys + j;
    int64_t vector = vector_of(tile, position);
    const int64_t left = tile.block_size - position % tile.block_size;  // in this block
    const int64_t end = j + left < span.end ? j + left : span.end;
    const std::byte* ahead = other + vector_of(tile, position + ahead_by) * bytes;
    for (; j < end; ++j, ++vector, ahead += bytes) {
      prefetch_bytes(ahead, bytes);
      widen_vector(reinterpret_cast<const T*>(data + vector * bytes), tile.head_dim,
                   sizeof(T) == 1 ? scales[vector] : 1.0F, rows + j * padded(tile.head_dim));
    }
  }
}

/// Keys or values in float32 rows, as widen_chunk leaves them: key j of the chunk is row j.
struct WidenedRows {
  const float* rows;
  int64_t stride;

  struct Vector {
    const float* from;
    [[gnu::always_inline]] F32 at(int64_t d) const { return load<F32>(from + d); }
  };
  [[gnu::always_inline]] Vector vector(int64_t j) const { return {rows + j * stride}; }
  void prefetch(int64_t /*j*/) const {}
  void prefetch_at(int64_t /*j*/, int64_t /*d*/) const {}
};

/// The same where they lie in the cache, those of one block, widened at each use: bit for bit what
/// widen_chunk makes of them.
template <class T>
struct CachedRows {
  const T* first;       // of key `begin` of the chunk
  const float* scales;  // from that key on, below kLargestShiftedScale
  int64_t begin;
  int64_t head_dim;
  const std::byte* ahead;  // what is needed next: asked for meanwhile

  struct Vector {
    const T* from;
    float scale;
    [[gnu::always_inline]] F32 at(int64_t d) const {
      if constexpr (sizeof(T) == 1) return widen_shifted(from + d, scale);
      return widen(from + d);
    }
  };
  [[gnu::always_inline]] Vector vector(int64_t j) const {
    return {first + (j - begin) * head_dim, sizeof(T) == 1 ? scales[j - begin] : 1.0F};
  }
  void prefetch(int64_t j) const {
    const int64_t bytes = head_dim * static_cast<int64_t>(sizeof(T));
    prefetch_bytes(ahead + (j - begin) * bytes, bytes);
  }
  /// One line of it.
  [[gnu::always_inline]] void prefetch_at(int64_t j, int64_t d) const {
    __builtin_prefetch(ahead + ((j - begin) * head_dim + d) * static_cast<int64_t>(sizeof(T)), 0, 2);
  }
};

/// Scores of `kQueries` queries with kLanes / kQueries keys each, from key j of the chunk on.
template <int kQueries, class Rows>
inline void score_block(const float* q, const Rows& rows, int64_t j, int64_t stride, float* scores) {
  constexpr int kKeys = kLanes / kQueries;
  F32 sums[kLanes] = {};
  typename Rows::Vector vectors[kKeys];
  for (int k = 0; k < kKeys; ++k) vectors[k] = rows.vector(j + k);
  for (int64_t d = 0; d < stride; d += kLanes) {
    F32 key[kKeys];
    for (int k = 0; k < kKeys; ++k) key[k] = vectors[k].at(d);
    for (int m = 0; m < kQueries; ++m) {
      const F32 query = in_register(load<F32>(q + m * stride + d));
      for (int k = 0; k < kKeys; ++k) sums[m * kKeys + k] = fma(query, key[k], sums[m * kKeys + k]);
    }
  }
  float dots[kLanes];
  save(dots, sum_each(sums));
  for (int m = 0; m < kQueries; ++m) {
    __builtin_memcpy(scores + m * kChunkKeys + j, dots + m * kKeys, kKeys * sizeof(float));
  }
}

template <int kQueries, class Rows>
inline void score_queries(const AttentionTile& tile, const AttentionScratch& scratch, int first, Span span,
                          const Rows& rows) {
  const int64_t stride = padded(tile.head_dim);
  constexpr int64_t kKeys = kLanes / kQueries;
  for (int64_t j = span.begin / kKeys * kKeys; j < span.end; j += kKeys) {
    if (first == 0) {
      for (int64_t k = j; k < j + kKeys; ++k) rows.prefetch(k);
    }
    score_block<kQueries>(scratch.q + first * stride, rows, j, stride, scratch.scores + first * kChunkKeys);
  }
}

template <class Rows>
inline void score_chunk(const AttentionTile& tile, const AttentionScratch& scratch, Span span,
                        const Rows& rows) {
  int m = 0;
  for (; m + 4 <= tile.count; m += 4) score_queries<4>(tile, scratch, m, span, rows);
  for (; m < tile.count; ++m) score_queries<1>(tile, scratch, m, span, rows);
}

inline float sum_of_lanes(F32 v) {
  const F32 only[kLanes] = {v};
  return sum_each(only)[0];
}

/// Turns the scores of one query into weights relative to the largest so far and scales what was summed
/// before.
inline void soften(const AttentionTile& tile, float* scores, Span span, const AttentionState& state, int m) {
  F32 most = splat(kMinusInfinity);
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    const I32 number = lane_numbers() + static_cast<int32_t>(j);
    const I32 seen = (number >= static_cast<int32_t>(span.begin)) & (number < static_cast<int32_t>(span.end));
    const F32 score = seen ? load<F32>(scores + j) * tile.scale : splat(kMinusInfinity);
    save(scores + j, score);
    most = max(score, most);
  }
  const float before = state.largest[m];
  const float chunk_largest = largest(most);
  const float now = chunk_largest > before ? chunk_largest : before;
  F32 total{};
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    const F32 score = load<F32>(scores + j);
    const F32 weight = exp(score - now);
    save(scores + j, weight);
    total += weight;
  }
  const float sum = sum_of_lanes(total);
  const float shrink = before < now ? exp(splat(before - now))[0] : 1.0F;
  state.sum[m] = state.sum[m] * shrink + sum;
  state.largest[m] = now;
  if (shrink == 1.0F) return;
  float* out = state.out + m * padded(tile.head_dim);
  for (int64_t d = 0; d < padded(tile.head_dim); d += kLanes) save(out + d, load<F32>(out + d) * shrink);
}

/// out += weights * values for kQueries queries and kVectors vectors of columns from d on.
template <int kQueries, int kVectors, class Rows>
inline void add_values(const float* weights, const Rows& rows, Span span, int64_t d, int64_t stride,
                       float* out) {
  F32 sums[kQueries][kVectors];
  for (int m = 0; m < kQueries; ++m) {
    for (int v = 0; v < kVectors; ++v) sums[m][v] = load<F32>(out + m * stride + d + v * kLanes);
  }
  for (int64_t j = span.begin; j < span.end; ++j) {
    const typename Rows::Vector vector = rows.vector(j);
    if (kVectors > 1) rows.prefetch_at(j, d);
    F32 value[kVectors];
    for (int v = 0; v < kVectors; ++v) value[v] = vector.at(d + v * kLanes);
    for (int m = 0; m < kQueries; ++m) {
      const F32 weight = splat(weights[m * kChunkKeys + j]);
      for (int v = 0; v < kVectors; ++v) sums[m][v] = fma(weight, value[v], sums[m][v]);
    }
  }
  for (int m = 0; m < kQueries; ++m) {
    for (int v = 0; v < kVectors; ++v) save(out + m * stride + d + v * kLanes, sums[m][v]);
  }
}

template <int kQueries, int kVectors, class Rows>
inline void add_value_columns(const AttentionTile& tile, const AttentionScratch& scratch,
                              const AttentionState& state, int first, Span span, const Rows& rows) {
  const int64_t stride = padded(tile.head_dim);
  const float* weights = scratch.scores + first * kChunkKeys;
  float* out = state.out + first * stride;
  int64_t d = 0;
  for (; d + kVectors * kLanes <= stride; d += kVectors * kLanes) {
    add_values<kQueries, kVectors>(weights, rows, span, d, stride, out);
  }
  for (; d < stride; d += kLanes) add_values<kQueries, 1>(weights, rows, span, d, stride, out);
}

/// Queries first .. first + 3 see the same keys of this chunk.
inline bool same_spans(const AttentionTile& tile, int first, int64_t chunk) {
  if (first + 4 > tile.count) return false;
  const Span one = span_in_chunk(tile.begin[first], tile.end[first], chunk);
  for (int m = first + 1; m < first + 4; ++m) {
    const Span other = span_in_chunk(tile.begin[m], tile.end[m], chunk);
    if (other.begin != one.begin || other.end != one.end) return false;
  }
  return one.begin < one.end;
}

/// `part`: the keys of the chunk that `rows` has.
template <class Rows>
inline void add_chunk(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                      const AttentionState& state, Span part, const Rows& rows) {
  for (int m = 0; m < tile.count;) {
    Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
    const bool same = same_spans(tile, m, chunk);
    span.begin = span.begin > part.begin ? span.begin : part.begin;
    span.end = span.end < part.end ? span.end : part.end;
    if (span.begin >= span.end) {
      m += same ? 4 : 1;
    } else if (same) {
      add_value_columns<4, 2>(tile, scratch, state, m, span, rows);
      m += 4;
    } else {
      add_value_columns<1, 4>(tile, scratch, state, m, span, rows);
      ++m;
    }
  }
}

/// The queries, padded with zeros.
inline void copy_queries(const AttentionTile& tile, float* into) {
  for (int m = 0; m < tile.count; ++m, into += padded(tile.head_dim)) {
    __builtin_memcpy(into, tile.q[m], static_cast<size_t>(tile.head_dim) * sizeof(float));
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
template <class T>
inline bool used_from_cache(const AttentionTile& tile, int64_t chunk, Span span) {
  const int passes = tile.count / 4 + tile.count % 4;
  if (passes > 2 || tile.head_dim % kHeadPadding != 0 || tile.block_size % kLanes != 0) return false;
  if (sizeof(T) > 1) return true;
  for (int64_t j = span.begin; j < span.end; ++j) {
    const int64_t vector = vector_of(tile, chunk * kChunkKeys + j);
    if (!(tile.key_scales[vector] < kLargestShiftedScale && tile.value_scales[vector] < kLargestShiftedScale))
      return false;
  }
  return true;
}

/// Calls body(part, rows) for the keys or values of a chunk, block by block of the cache.
template <class T, class Body>
inline void for_blocks(const AttentionTile& tile, int64_t chunk, Span span, bool is_keys, Body&& body) {
  const std::byte* data = is_keys ? tile.keys : tile.values;
  const std::byte* other = data;
  const float* scales = is_keys ? tile.key_scales : tile.value_scales;
  const int64_t ahead_by = tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys ? 0 : kChunkKeys;
  const int64_t bytes = tile.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t j = span.begin; j < span.end;) {
    // From the block's first key in this chunk: a group of keys that are scored together begins there, too.
    const int64_t position = chunk * kChunkKeys + j;
    const int64_t back = position % tile.block_size < j ? position % tile.block_size : j;
    const int64_t vector = vector_of(tile, position - back);
    const int64_t left = tile.block_size - position % tile.block_size;
    const int64_t end = j + left < span.end ? j + left : span.end;
    const CachedRows<T> rows = {reinterpret_cast<const T*>(data + vector * bytes),
                                sizeof(T) == 1 ? scales + vector : nullptr, j - back, tile.head_dim,
                                other + vector_of(tile, position - back + ahead_by) * bytes};
    body(Span{j, end}, rows);
    j = end;
  }
}

/// One chunk: its scores become weights by `soften_all`, then its values are added.
template <class T, class Soften>
inline void attend_cached(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                          const AttentionState& state, Span all, Soften&& soften_all) {
  for_blocks<T>(tile, chunk, all, true,
                [&](Span part, const CachedRows<T>& rows) { score_chunk(tile, scratch, part, rows); });
  soften_all();
  for_blocks<T>(tile, chunk, all, false, [&](Span part, const CachedRows<T>& rows) {
    add_chunk(tile, chunk, scratch, state, part, rows);
  });
}

template <class T, class Soften>
inline void attend_widened(const AttentionTile& tile, int64_t chunk, const AttentionScratch& whole,
                           const AttentionState& state, Span all, Soften&& soften_all) {
  const bool latent = tile.values == tile.keys;  // a key is its value, too, and is widened once
  const int64_t stride = padded(tile.head_dim);
  widen_chunk<T>(tile, chunk, all, true, whole.keys);
  score_chunk(tile, whole, all, WidenedRows{whole.keys, stride});
  soften_all();
  if (!latent) widen_chunk<T>(tile, chunk, all, false, whole.values);
  add_chunk(tile, chunk, whole, state, all, WidenedRows{latent ? whole.keys : whole.values, stride});
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
  copy_queries(tile, scratch.q);
  for (int64_t chunk = seen.begin / kChunkKeys; chunk * kChunkKeys < seen.end; ++chunk) {
    const Span all = span_in_chunk(seen.begin, seen.end, chunk);
    const auto soften_all = [&] {
      for (int m = 0; m < tile.count; ++m) {
        const Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
        if (span.begin < span.end) soften(tile, scratch.scores + m * kChunkKeys, span, state, m);
      }
    };
    if (used_from_cache<T>(tile, chunk, all)) {
      attend_cached<T>(tile, chunk, scratch, state, all, soften_all);
    } else {
      attend_widened<T>(tile, chunk, scratch, state, all, soften_all);
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

inline void finish_state(const AttentionTile& tile, const AttentionState& state) {
  for (int m = 0; m < tile.count; ++m) {
    const F32 sum = splat(state.sum[m]);
    const float* out = state.out + m * padded(tile.head_dim);
    for_vectors(tile.head_dim, [&](int64_t d, int64_t n) __attribute__((always_inline)) {
      narrow_some(load<F32>(out + d) / sum, tile.y[m] + d, n);
    });
  }
}

}  // namespace lanes

inline constexpr AttentionKernels kAttentionKernels = {
    .partition = lanes::attend_any_partition,
    .merge = lanes::merge_states,
    .finish = lanes::finish_state,
};

}  // namespace octet::OCTET_ISA
