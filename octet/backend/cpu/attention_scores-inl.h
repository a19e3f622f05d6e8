// SPDX-License-Identifier: Apache-2.0
/// Scores of a chunk of keys, and the weights that the online softmax makes of them. Sums are folded some
/// keys after they were made, on ports that no multiply-add needs.
#pragma once

#include "octet/backend/cpu/attention_cache-inl.h"

namespace octet::OCTET_ISA::lanes {

inline constexpr float kMinusInfinity = -__builtin_inff();
inline constexpr float kLog2OfE = 0x1.715476p+0F;

/// Calls body.operator()<p>() for p = 0 .. n - 1.
template <int n, int p = 0, class Body>
[[gnu::always_inline]] inline void for_each_vector(const Body& body) {
  if constexpr (p < n) {
    body.template operator()<p>();
    for_each_vector<n, p + 1>(body);
  }
}

/// Queries are scored in groups of 4 at most, and none alone unless there is but one: how many are in the
/// group that begins with this one.
inline int score_group(int first, int count) {
  const int left = count - first;
  return left == 5 ? 3 : left < 4 ? left : 4;
}
/// Keys that are scored together: as many sums as hide the latency of a multiply-add and stay in registers,
/// a vector of each key beside them.
constexpr int keys_at_once(int queries) {
  if (kLanes == 16) return queries >= 3 ? 4 : 8 / queries;
  return queries >= 3 ? 3 : queries == 2 ? 4 : 6;
}

/// Where the products of a key and a query are, added up in each lane: [queries, kChunkKeys, kLanes].
inline constexpr int64_t kOfQuery = kChunkKeys * kLanes;
static_assert(4 * kOfQuery <= kSumFloats);

/// Adds up the lanes of kLanes keys from `key` on for scores [kQueries, kChunkKeys].
template <int kQueries>
[[gnu::always_inline]] inline void fold_sums(const float* sums, int64_t key, float* scores) {
#pragma GCC unroll 4
  for (int m = 0; m < kQueries; ++m) {
    save(scores + m * kChunkKeys + key, sum_each_stored(sums + m * kOfQuery + key * kLanes));
  }
}
/// The same for those of them that are in `span`.
[[gnu::noinline]] inline void fold_some_sums(int queries, const float* sums, int64_t key, Span span,
                                             float* scores) {
  for (int m = 0; m < queries; ++m, sums += kOfQuery, scores += kChunkKeys) {
    const F32 dots = sum_each_stored(sums + key * kLanes);
    for (int64_t j = 0; j < kLanes; ++j) {
      if (key + j >= span.begin && key + j < span.end) scores[key + j] = dots[j];
    }
  }
}

/// The vectors of a key.
struct KeySize {
  int64_t stride;
  int64_t grouped;
  int64_t padded;
};

/// Products of kQueries queries with kKeys keys from `first` on, added up in each lane.
template <int kQueries, int kKeys, class T, class Asking>
[[gnu::always_inline]] inline void score_block(const float* q, const T* first, const KeySize& size,
                                               float* into, Asking& asking) {
  constexpr int kOfGroup = Group<T>::kVectors;
  constexpr int kSteps = kOfGroup > 1 ? kOfGroup : kHeadPadding / kLanes;
  F32 sums[kQueries * kKeys] = {};
  const T* vectors[kKeys];
  for (int k = 0; k < kKeys; ++k) vectors[k] = first + k * size.stride;
  const auto add = [&](const F32(&key)[kKeys], const float* at) __attribute__((always_inline)) {
    for (int m = 0; m < kQueries; ++m) add_products<kKeys>(at + m * kLanes, key, sums + m * kKeys);
  };
  int64_t d = 0;
  for (; d < size.grouped; d += kSteps * kLanes, q += kSteps * kLanes * kQueries) {
    asking.next(kSteps * kLanes * kKeys);
    for_each_vector<kSteps>([&]<int p>() __attribute__((always_inline)) {
      constexpr int kBefore = p / kOfGroup * kOfGroup * kLanes;
      const KeptBits<T> kept;
      F32 key[kKeys];
      for (int k = 0; k < kKeys; ++k) {
        key[k] = vector_in_place<T, p % kOfGroup>(vectors[k] + d + kBefore, kept);
      }
      add(key, q + p * kLanes * kQueries);
    });
  }
  for (; d < size.padded; d += kLanes, q += kLanes * kQueries) {
    F32 key[kKeys];
    for (int k = 0; k < kKeys; ++k) key[k] = widen_in_order(vectors[k] + d);
    add(key, q);
  }
#pragma GCC unroll 4
  for (int m = 0; m < kQueries; ++m) {
    for (int k = 0; k < kKeys; ++k) save(into + m * kOfQuery + k * kLanes, sums[m * kKeys + k]);
  }
}

template <int kQueries, class Rows>
[[gnu::noinline]] void score_queries(const AttentionTile& tile, const AttentionScratch& scratch, int first,
                                     Span span, const Rows& rows) {
  constexpr int kKeys = keys_at_once(kQueries);
  const KeySize size = {rows.stride(), rows.grouped_size(), padded(tile.head_dim)};
  const float* q = scratch.q + first * size.padded;
  float* scores = scratch.scores + first * kChunkKeys;
  float* sums = scratch.sums;
  const auto* key = rows.vector(span.begin);
  Asking<Rows> asking(rows, first == 0, 0);
  int64_t folded = (span.begin + kLanes - 1) / kLanes * kLanes;
  int64_t j = span.begin;
  const auto score = [&]<int kCount>() __attribute__((always_inline)) {
    score_block<kQueries, kCount>(q, key, size, sums + j * kLanes, asking);
    if (folded + kLanes <= j) {  // before this block, so that nothing waits for it
      fold_sums<kQueries>(sums, folded, scores);
      folded += kLanes;
    }
    key += kCount * size.stride;
    j += kCount;
  };
  const auto left = [&] { return span.end - j; };
  // Four are two and two rather than three and one, whose sums would wait for each other.
  while (left() >= kKeys && (kKeys != 3 || left() != 4)) score.template operator()<kKeys>();
  while (left() >= 2) score.template operator()<2>();
  if (left() > 0) score.template operator()<1>();
  for (; folded + kLanes <= span.end; folded += kLanes) fold_sums<kQueries>(sums, folded, scores);
  if (span.begin % kLanes != 0) fold_some_sums(kQueries, sums, span.begin / kLanes * kLanes, span, scores);
  if (folded < span.end) fold_some_sums(kQueries, sums, folded, span, scores);
}

template <class Rows>
inline void score_chunk(const AttentionTile& tile, const AttentionScratch& scratch, Span span,
                        const Rows& rows) {
  for (int m = 0; m < tile.count;) {
    const int group = score_group(m, tile.count);
    if (group == 4) score_queries<4>(tile, scratch, m, span, rows);
    if (group == 3) score_queries<3>(tile, scratch, m, span, rows);
    if (group == 2) score_queries<2>(tile, scratch, m, span, rows);
    if (group == 1) score_queries<1>(tile, scratch, m, span, rows);
    m += group;
  }
}

/// The queries in the order in which score_block reads them: for each vector those of a group after each
/// other, the elements in the order of the cache's vectors, padded with zeros.
template <class T>
inline void copy_queries(const AttentionTile& tile, float* into) {
  const int64_t stride = padded(tile.head_dim);
  for (int first = 0; first < tile.count;) {
    const int group = score_group(first, tile.count);
    for (int m = 0; m < group; ++m) {
      float* at = into + (first * stride + m * kLanes);
      const auto place_in = [group](int64_t place) {
        return place / kLanes * group * kLanes + place % kLanes;
      };
      const float* q = tile.q[first + m];
      for_places<T>(tile.head_dim, [&](int64_t place, int64_t element) __attribute__((always_inline)) {
        at[place_in(place)] = q[element] * Units<T>::kQuery;
      });
      for (int64_t d = tile.head_dim; d < stride; ++d) at[place_in(d)] = 0.0F;
    }
    first += group;
  }
}

/// What FP8 needs beside the codes of a chunk, [kChunkKeys] each.
struct ChunkScales {
  const float* keys = nullptr;
  const float* values = nullptr;
};

/// All bits of those lanes whose keys, from number `first` on, are in `span`.
inline I32 seen_lanes(Span span, int64_t first) {
  const I32 number = lane_numbers() + static_cast<int32_t>(first);
  return (number >= static_cast<int32_t>(span.begin)) & (number < static_cast<int32_t>(span.end));
}

/// Scores become powers of two: units of log2(e), masked where the query does not see the key. Returns the
/// largest.
template <class T>
inline float scale_scores(const AttentionTile& tile, const ChunkScales& scales, Span span, float* scores) {
  const F32 unit = splat(Units<T>::kScore * kLog2OfE * tile.scale);
  const bool whole = span.end - span.begin == kChunkKeys;
  F32 most = splat(kMinusInfinity);
#pragma GCC unroll 8
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    F32 score = load<F32>(scores + j) * unit;
    if constexpr (sizeof(T) == 1) score *= load<F32>(scales.keys + j);
    if (!whole) score = seen_lanes(span, j) ? score : splat(kMinusInfinity);
    save(scores + j, score);
    most = max(score, most);
  }
  return largest(most);
}

/// Scores become weights relative to the largest so far. Returns their sum.
template <class T>
inline float weigh_scores(const ChunkScales& scales, float most, float* scores) {
  F32 total{};
#pragma GCC unroll 8
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    F32 weight = exp2_below_one<Units<T>::kWeight>(load<F32>(scores + j) - most);
    total += weight;
    if constexpr (sizeof(T) == 1) weight *= load<F32>(scales.values + j);
    save(scores + j, weight);
  }
  return sum_of_lanes(total) * Units<T>::kSum;
}

/// Turns the dot products of all queries with a chunk into weights, and scales what was summed before. One
/// step for all queries before the next, so that none waits for what folds the lanes of another.
template <class T>
inline void soften(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                   const ChunkScales& scales, const AttentionState& state) {
  float before[kTileQueries];
  const auto span_of = [&](int m) { return span_in_chunk(tile.begin[m], tile.end[m], chunk); };
  for (int m = 0; m < tile.count; ++m) {
    before[m] = state.largest[m];
    const Span span = span_of(m);
    if (span.begin >= span.end) continue;
    const float most = scale_scores<T>(tile, scales, span, scratch.scores + m * kChunkKeys);
    state.largest[m] = most > before[m] ? most : before[m];
  }
  for (int m = 0; m < tile.count; ++m) {
    const Span span = span_of(m);
    if (span.begin >= span.end) continue;
    const float now = state.largest[m];
    const float sum = weigh_scores<T>(scales, now, scratch.scores + m * kChunkKeys);
    const float shrink = before[m] < now ? exp2_below_one(splat(before[m] - now))[0] : 1.0F;
    state.sum[m] = state.sum[m] * shrink + sum;
    if (shrink == 1.0F) continue;
    float* out = state.out + m * padded(tile.head_dim);
    for (int64_t d = 0; d < padded(tile.head_dim); d += kLanes) save(out + d, load<F32>(out + d) * shrink);
  }
}

}  // namespace octet::OCTET_ISA::lanes
