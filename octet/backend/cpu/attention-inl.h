// SPDX-License-Identifier: Apache-2.0
/// Attention over the paged cache, written once over lanes-inl.h: the online softmax in chunks of keys. Each
/// score, each weight and each output is computed by the same operations in the same order whichever queries
/// share its tile, so a query's bits depend on its own sequence alone.
#pragma once

#include "octet/backend/cpu/attention_values-inl.h"

namespace octet::OCTET_ISA {
namespace lanes {

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

/// Chunks whose vectors are used from the cache, one after the other. The values of a chunk are added after
/// the next one's keys are scored: so nothing waits for the last scores to become weights, or for those.
template <class T, class Order>
class ChunksFromCache {
 public:
  ChunksFromCache(const AttentionTile& tile, const AttentionScratch& scratch, const AttentionState& state)
      : tile_(tile), scratch_{scratch, scratch}, state_(state) {
    scratch_[1].scores += kMostFromCache * kChunkKeys;
  }
  /// Whether queries are few enough, so that vectors are widened where they are used.
  static bool suit(const AttentionTile& tile) {
    return tile.count <= kMostFromCache && tile.head_dim % kHeadPadding == 0;
  }
  void score(int64_t chunk, Span all) {
    const AttentionScratch& scratch = scratch_[chunk % 2];
    for_blocks<T, Order>(tile_, chunk, all, tile_.keys, scratch.keys,
                         [&](Span part, const auto& rows) { score_chunk(tile_, scratch, part, rows); });
  }
  void make_weights(int64_t chunk, Span all, const ChunkScales& scales) {
    soften<T>(tile_, chunk, scratch_[chunk % 2], scales, state_);
    waiting_ = chunk;
    keys_ = all;
  }
  /// Adds the values that have weights and were not added.
  void add_values() {
    if (waiting_ < 0) return;
    const int64_t chunk = waiting_;
    waiting_ = -1;
    const AttentionScratch& scratch = scratch_[chunk % 2];
    for_blocks<T, Order>(tile_, chunk, keys_, tile_.values, scratch.values, [&](Span part, const auto& rows) {
      add_chunk(tile_, chunk, scratch, state_, part, {0, padded(tile_.head_dim)}, rows);
    });
  }

 private:
  static constexpr int kMostFromCache = 8;
  static_assert(2 * kMostFromCache <= kTileQueries);
  const AttentionTile& tile_;
  AttentionScratch scratch_[2];  // for chunks of even and of odd numbers
  const AttentionState& state_;
  int64_t waiting_ = -1;  // the chunk whose values were not added
  Span keys_ = {};
};

/// The chunk's values in float32; those whose scale is too large to be in a weight have it already, and a
/// scale of one.
template <class T>
inline void widen_scaled_values(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                                Span all) {
  const int64_t size = padded(tile.head_dim);
  widen_chunk<T>(tile, chunk, all, false, scratch.values);
  for (int64_t j = all.begin; j < all.end; ++j) {
    float& scale = scratch.value_scales[j];
    if (scale < kLargestWeightScale) continue;
    float* row = scratch.values + j * widened_stride(size);
    for (int64_t d = 0; d < size; d += kLanes) save(row + d, load<F32>(row + d) * scale);
    scale = 1.0F;
  }
}

/// Calls body(part) for parts of `all`, of `size` keys or columns: as many as stay in the first cache while
/// all queries use them.
template <class Body>
inline void for_parts(Span all, int64_t size, Body&& body) {
  for (int64_t j = all.begin; j < all.end; j += size) body(Span{j, j + size < all.end ? j + size : all.end});
}

/// The same over rows of float32. `values_are_there`: by take_scales_in.
template <class T>
inline void attend_widened(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                           const AttentionState& state, Span all, const ChunkScales& scales,
                           bool values_are_there) {
  const bool latent = tile.values == tile.keys;  // a key is its value, too, and is widened once
  const int64_t stride = padded(tile.head_dim);
  widen_chunk<T>(tile, chunk, all, true, scratch.keys);
  const WidenedRows keys = {scratch.keys, stride};
  for_parts(all, 32, [&](Span part) { score_chunk(tile, scratch, part, keys); });
  soften<T>(tile, chunk, scratch, scales, state);
  const bool keys_are_values = latent && !values_are_there;
  if (!latent && !values_are_there) widen_chunk<T>(tile, chunk, all, false, scratch.values);
  const WidenedRows values = {keys_are_values ? scratch.keys : scratch.values, stride};
  for_parts({0, stride}, 64,
            [&](Span columns) { add_chunk(tile, chunk, scratch, state, all, columns, values); });
}

/// Finds what FP8 needs beside the codes. Returns whether the values' scales fit into the weights.
template <class T>
inline bool find_scales(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch, Span all,
                        ChunkScales& scales) {
  if constexpr (sizeof(T) > 1) return true;
  const bool latent = tile.values == tile.keys;
  scales.keys = scales_of_chunk(tile, tile.key_scales, chunk, all, scratch.key_scales);
  scales.values =
      scales_of_chunk(tile, latent ? tile.key_scales : tile.value_scales, chunk, all, scratch.value_scales);
  return are_small(scales.values);
}
/// Where they do not: widens the values, and the scales are those of what this leaves.
template <class T>
inline void take_scales_in(const AttentionTile& tile, int64_t chunk, const AttentionScratch& scratch,
                           Span all, ChunkScales& scales) {
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
    save(scratch.value_scales + j, load<F32>(scales.values + j));
  }
  scales.values = scratch.value_scales;
  widen_scaled_values<T>(tile, chunk, scratch, all);
}

/// The keys of one partition that the tile sees; nothing is summed yet.
inline Span begin_partition(const AttentionTile& tile, int64_t index, const AttentionState& state) {
  for (int m = 0; m < tile.count; ++m) {
    state.largest[m] = kMinusInfinity;
    state.sum[m] = 0.0F;
  }
  const auto values = static_cast<size_t>(tile.count * padded(tile.head_dim));
  __builtin_memset(state.out, 0, values * sizeof(float));
  return seen_keys(tile, index);
}

template <class T, class Order>
inline void attend_partition(const AttentionTile& tile, int64_t index, const AttentionScratch& scratch,
                             const AttentionState& state) {
  const Span seen = begin_partition(tile, index, state);
  if (seen.begin >= seen.end) return;
  const bool suit = ChunksFromCache<T, Order>::suit(tile);
  ChunksFromCache<T, Order> chunks(tile, scratch, state);
  for (int64_t chunk = seen.begin / kChunkKeys; chunk * kChunkKeys < seen.end; ++chunk) {
    const Span all = span_in_chunk(seen.begin, seen.end, chunk);
    ChunkScales scales;
    const bool fitting = find_scales<T>(tile, chunk, scratch, all, scales);
    if (fitting && suit) {
      chunks.score(chunk, all);
      if constexpr (sizeof(T) == 1) ask_for_scales(tile, chunk, scales.keys);
      chunks.add_values();
      chunks.make_weights(chunk, all, scales);
    } else {
      chunks.add_values();
      if (!fitting) take_scales_in<T>(tile, chunk, scratch, all, scales);
      attend_widened<T>(tile, chunk, scratch, state, all, scales, !fitting);
    }
  }
  chunks.add_values();
}

/// Codes as they lie, which makes subnormal float32 of some.
struct DecodedInPlace {};

/// How a cache is read: how its codes are decoded, and in which Order its lines are asked for.
template <class HowDecoded, class HowAsked>
struct Reading {
  using Decoding = HowDecoded;
  using Order = HowAsked;
};

/// body.operator()<T>() for how elements of the cache are decoded.
template <class Decoding, class Body>
inline void visit_cache(DType dtype, Body&& body) {
  if constexpr (__is_same(Decoding, DecodedInPlace)) {
    visit_any(dtype, body);
  } else if (dtype == DType::kF8E4M3) {
    body.template operator()<NormalCode<Decoding, 3>>();
  } else if (dtype == DType::kF8E5M2) {
    body.template operator()<NormalCode<Decoding, 2>>();
  } else {
    visit_real(dtype, body);
  }
}

template <class How>
inline void attend_any_partition(const AttentionTile& tile, int64_t index, const AttentionScratch& scratch,
                                 const AttentionState& state) {
  visit_cache<typename How::Decoding>(
      tile.dtype, [&]<class T>() { attend_partition<T, typename How::Order>(tile, index, scratch, state); });
}

template <class How>
inline void copy_any_queries(const AttentionTile& tile, const AttentionScratch& scratch) {
  visit_cache<typename How::Decoding>(tile.dtype, [&]<class T>() { copy_queries<T>(tile, scratch.q); });
}

inline void merge_states(const AttentionTile& tile, const AttentionState& part, const AttentionState& into) {
  for (int m = 0; m < tile.count; ++m) {
    if (part.sum[m] == 0.0F) continue;  // saw no key
    const float now = part.largest[m] > into.largest[m] ? part.largest[m] : into.largest[m];
    const float of_part = exp2_below_one(splat(part.largest[m] - now))[0];
    const float of_into = exp2_below_one(splat(into.largest[m] - now))[0];
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

template <class How>
inline void finish_state(const AttentionTile& tile, const AttentionState& state) {
  visit_cache<typename How::Decoding>(tile.dtype, [&]<class T>() { finish_rows<T>(tile, state); });
}

}  // namespace lanes

template <class How>
inline constexpr AttentionKernels kAttentionKernelsOf = {
    .prepare = lanes::copy_any_queries<How>,
    .partition = lanes::attend_any_partition<How>,
    .merge = lanes::merge_states,
    .finish = lanes::finish_state<How>,
};
inline constexpr AttentionKernels kAttentionKernels =
    kAttentionKernelsOf<lanes::Reading<lanes::DecodedInPlace, lanes::AskedInOrder>>;
inline constexpr AttentionKernels kNormalAttentionKernels =
    kAttentionKernelsOf<lanes::Reading<lanes::DecodedBySteps, lanes::AskedInOrder>>;

}  // namespace octet::OCTET_ISA
