// SPDX-License-Identifier: Apache-2.0
/// Attention by tile products, over the operands of attention_tiles-inl.h: the same chunks, partitions and
/// softmax as attention-inl.h. Each score and each sum of a chunk's values is made of the same products in
/// the same order whichever queries share its tiles, so a query's bits depend on its own sequence alone.
#pragma once

#include <utility>

#include "octet/backend/cpu/attention-inl.h"
#include "octet/backend/cpu/attention_tiles-inl.h"

namespace octet::OCTET_ISA {
namespace lanes {

/// What is multiplied: `left` and `right` give the place of a tile of a step.
template <class Left, class Right>
struct TileOperands {
  Left left;
  int64_t left_stride;  // of rows, in bytes
  Right right;          // tiles of kTileFloats
  int64_t steps;
};

/// kLeft by kRight tiles of sums, in as many registers, 6 at the most.
template <int kLeft, int kRight>
struct TileSums {
  static constexpr int kSums = kLeft * kRight;
  static_assert(kSums <= 6);

  /// Sums of the products of all steps, [kLeft * 16, kRight * 16] at `into`. Calls before_each() for each of
  /// them.
  template <class Operands, class BeforeEach>
  [[gnu::always_inline]] static void multiply(const Operands& operands, float* into,
                                              BeforeEach&& before_each) {
    each([]<int kAt>() __attribute__((always_inline)) { zero_tile<kAt>(); });
    for (int64_t step = 0; step < operands.steps; ++step) {
      each([&]<int kAt>() __attribute__((always_inline)) {
        before_each();
        add<kAt>(operands, step);
      });
    }
    each([&]<int kAt>() __attribute__((always_inline)) {
      store_tile<kAt>(into + kAt / kRight * 16 * kRight * 16 + kAt % kRight * 16, kRight * 16 * 4);
    });
  }

 private:
  template <class Each>
  [[gnu::always_inline]] static void each(Each&& each_one) {
    [&]<int... kAt>(std::integer_sequence<int, kAt...>) __attribute__((always_inline)) {
      (each_one.template operator()<kAt>(), ...);
    }(std::make_integer_sequence<int, kSums>{});
  }
  /// Forth and back through the right tiles, so that at each turn the last one is there already.
  template <int kAt, class Operands>
  [[gnu::always_inline]] static void add(const Operands& operands, int64_t step) {
    constexpr int kI = kAt / kRight;
    constexpr int kJ = kI % 2 == 0 ? kAt % kRight : kRight - 1 - kAt % kRight;
    constexpr int kX = kSums > 4 ? 6 : 4 + kI % 2;
    constexpr int kW = kSums > 4 ? 7 : 6 + kJ % 2;
    if constexpr (kAt % kRight == 0) load_tile<kX>(operands.left(kI, step), operands.left_stride);
    if constexpr (kAt % kRight != 0 || kI == 0) load_tile<kW>(operands.right(kJ, step), kTileRowBytes);
    multiply_add_tiles<kI * kRight + kJ, kX, kW>();
  }
};

/// The three parts of 16 sums, those of one part `apart` floats behind those of the one before.
[[gnu::always_inline]] inline F32 sum_of_parts(const float* sums, int64_t apart) {
  return load<F32>(sums) + load<F32>(sums + apart) + load<F32>(sums + 2 * apart);
}
[[gnu::always_inline]] inline bool any_nan(F32 value) {
  return any((Halves)(value != value));
}

/// Scores of 16 keys, [16, columns], as [queries, kChunkKeys].
[[gnu::always_inline]] inline void fold_tile_scores(const float* sums, int64_t columns,
                                                    const QueryGroup& group, float* scores) {
  alignas(64) float added[kTileFloats];
  for (int key = 0; key < kTileKeys; ++key)
    save(added + key * kLanes, sum_of_parts(sums + key * columns, group.count));
  for (int m = 0; m < group.count; m += 4) {
    F32 four[4];
    transpose_four(added + m, kLanes, four);
    for (int i = 0; i < 4; ++i) save(scores + (m + i) * kChunkKeys, four[i]);
  }
}

/// Scores that are no number, in float32: parts of what is infinite multiply to no number, where the whole
/// may be plus or minus infinity, which softmax knows.
template <class T>
[[gnu::noinline]] void score_anew(const AttentionTile& tile, int query, Span span, const KeyTiles& keys,
                                  float* scores) {
  for (int64_t j = span.begin; j < span.end; ++j) {
    if (scores[j] == scores[j]) continue;
    float sum = 0;
    for (int64_t x = 0; x < tile.head_dim; ++x) {
      const auto bits = static_cast<uint32_t>(keys.row(j)[x].bits) << 16;
      sum += tile.q[query][element_at<T>(x, grouped<T>(tile.head_dim))] * Units<T>::kQuery *
             __builtin_bit_cast(float, bits);
    }
    scores[j] = sum;
  }
}
template <class T>
inline void mend_scores(const AttentionTile& tile, int64_t chunk, const QueryGroup& group,
                        const KeyTiles& keys, float* scores) {
  for (int m = group.first; m < group.first + group.count; ++m) {
    const Span span = span_in_chunk(tile.begin[m], tile.end[m], chunk);
    F32 total{};
    for (int64_t j = 0; j < kChunkKeys; j += kLanes) {
      total += as_float(load<I32>(scores + m * kChunkKeys + j) & seen_lanes(span, j));
    }
    if (any_nan(total)) score_anew<T>(tile, m, span, keys, scores + m * kChunkKeys);
  }
}

/// Products of all keys of a chunk with a group of queries, [kChunkKeys, columns] at `sums`: kKeys by
/// kColumns tiles at once.
template <int kKeys, int kColumns>
[[gnu::noinline]] void multiply_keys(const KeyTiles& keys, const float* q, int64_t steps, float* sums,
                                     NextLines& next) {
  for (int t = 0; t < kKeyTiles; t += kKeys, sums += kKeys * kColumns * kTileFloats) {
    const std::byte* tiles[kKeys];
    for (int i = 0; i < kKeys; ++i) tiles[i] = keys.tiles[t + i];
    const auto left = [&](int i, int64_t step) { return tiles[i] + step * kTileRowBytes; };
    const auto right = [q](int j, int64_t step) { return q + (step * kColumns + j) * kTileFloats; };
    TileSums<kKeys, kColumns>::multiply(TileOperands{left, keys.stride, right, steps}, sums,
                                        [&] { next.ask(4); });
  }
}
inline void multiply_group(const QueryGroup& group, const KeyTiles& keys, const float* q, int64_t size,
                           float* sums, NextLines& next) {
  const int64_t steps = size / kStepSize;
  q += group.offset(size);
  if (group.tiles() == 1) multiply_keys<4, 1>(keys, q, steps, sums, next);
  if (group.tiles() == 2) multiply_keys<2, 2>(keys, q, steps, sums, next);
  if (group.tiles() == 3) multiply_keys<2, 3>(keys, q, steps, sums, next);
}

/// What add_group multiplies and where it adds.
struct ValueWork {
  const AttentionTile& tile;
  int64_t chunk;
  QueryGroup group;
  const float* weights;  // as copy_weights_to_tiles lays them
  const float* values;   // as copy_values_to_tiles does
  int64_t steps;         // of keys
  float unit;            // of the sums
  float* out;            // [queries, padded head]

  /// Of query m of the group.
  [[nodiscard]] Span span(int m) const {
    return span_in_chunk(tile.begin[group.first + m], tile.end[group.first + m], chunk);
  }
  /// From a step of keys to the next.
  [[nodiscard]] int64_t step_floats() const { return kStepSize / 2 * whole_steps(tile.head_dim); }
};

/// Sums of kColumns tiles of 16 elements, [kRows * 16, kColumns * 16] at `into`.
template <int kRows, int kColumns>
[[gnu::always_inline]] inline void multiply_values(const float* weights, const float* values, int64_t steps,
                                                   int64_t step_floats, float* into, NextLines& next) {
  const auto left = [&](int i, int64_t step) { return weights + (i * 2 + step) * kTileFloats; };
  const auto right = [&](int j, int64_t step) { return values + step * step_floats + j * kTileFloats; };
  TileSums<kRows, kColumns>::multiply(TileOperands{left, kTileRowBytes, right, steps}, into,
                                      [&] { next.ask(4); });
}

/// The sums of query m over the keys that it sees: a weight of zero does not undo an infinite value.
template <int kRows, int kColumns>
[[gnu::noinline]] void sum_seen_values(const ValueWork& work, int m, const float* values,
                                       F32 (&sums)[kColumns]) {
  constexpr int64_t kStep = kColumns * kTileFloats;
  const Span span = work.span(m);
  alignas(64) float seen_values[2 * kStep];
  alignas(64) float products[kRows * kStep];
  const auto kept = [&](int64_t key, uint32_t bits) {
    return key >= span.begin && key < span.end ? static_cast<int32_t>(bits) : 0;
  };
  for (int64_t step = 0; step < work.steps; ++step) {
    for (int64_t row = 0; row < kColumns * 16; ++row) {
      const int64_t key = step * kStepSize + row % 16;
      const int32_t bits = kept(key, 0xffffU) | kept(key + kTileKeys, 0xffff0000U);
      save(seen_values + step * kStep + row * kLanes,
           load<I32>(values + step * work.step_floats() + row * kLanes) & bits);
    }
  }
  NextLines none;
  multiply_values<kRows, kColumns>(work.weights, seen_values, work.steps, kStep, products, none);
  for (int j = 0; j < kColumns; ++j)
    sums[j] = sum_of_parts(products + m * kColumns * 16 + j * kLanes, work.group.count * kColumns * 16);
}

/// Adds the values of kColumns tiles of 16 elements from tile `first` on.
template <int kRows, int kColumns>
[[gnu::always_inline]] inline void add_columns(const ValueWork& work, int64_t first, float* products,
                                               NextLines& next) {
  const int64_t stride = padded(work.tile.head_dim);
  const float* values = work.values + first * kTileFloats;
  multiply_values<kRows, kColumns>(work.weights, values, work.steps, work.step_floats(), products, next);
  for (int m = 0; m < work.group.count; ++m) {
    const Span span = work.span(m);
    if (span.begin >= span.end) continue;
    F32 sums[kColumns];
    F32 total{};
    for (int j = 0; j < kColumns; ++j) {
      sums[j] = sum_of_parts(products + m * kColumns * 16 + j * kLanes, work.group.count * kColumns * 16);
      total += sums[j];
    }
    if (any_nan(total)) [[unlikely]]
      sum_seen_values<kRows, kColumns>(work, m, values, sums);
    float* out = work.out + (work.group.first + m) * stride;
    for (int64_t d = first * 16, j = 0; j < kColumns && d < stride; ++j, d += kLanes)
      save(out + d, fma(sums[j], splat(work.unit), load<F32>(out + d)));
  }
}
template <int kRows, int kColumns>
[[gnu::noinline]] void add_columns(const ValueWork& work, float* products, NextLines& next) {
  const int64_t tiles = whole_steps(work.tile.head_dim) / 16;
  int64_t first = 0;
  for (; first + kColumns <= tiles; first += kColumns)
    add_columns<kRows, kColumns>(work, first, products, next);
  if (first < tiles) add_columns<kRows, 2>(work, first, products, next);
}
inline void add_group(const ValueWork& work, float* products, NextLines& next) {
  if (work.group.tiles() == 1) add_columns<1, 4>(work, products, next);
  if (work.group.tiles() == 2) add_columns<2, 2>(work, products, next);
  if (work.group.tiles() == 3) add_columns<3, 2>(work, products, next);
}

/// Scales of values that are too large for a weight enter so much smaller, and their sums are multiplied
/// back.
inline constexpr float kSmallerScale = 0x1p-96F;

/// The chunks of a partition, one after the other. Between what is stored and the products that load it there
/// is other work: a tile is loaded from the cache only, so it waits until all stores before it are there.
template <class T>
class ChunksByTiles {
 public:
  ChunksByTiles(const AttentionTile& tile, const AttentionScratch& scratch, const AttentionState& state,
                Span seen)
      : tile_(tile),
        scratch_(scratch),
        state_(state),
        seen_(seen),
        size_(whole_steps(tile.head_dim)),
        groups_((tile.count + kGroupQueries - 1) / kGroupQueries) {}

  void attend() {
    int64_t chunk = seen_.begin / kChunkKeys;
    take_keys(chunk);
    for (; chunk * kChunkKeys < seen_.end; ++chunk) {
      next_ = NextLines(tile_, chunk, sizeof(T));
      score_all_but_last(chunk);
      add_values();
      take_values(chunk);
      fold(chunk, groups_ - 1);
      soften(chunk);
      take_keys(chunk + 1);
      make_weights(chunk);
    }
    add_values();
  }

 private:
  static constexpr int kMostGroups = kTileQueries / kGroupQueries;
  static constexpr int64_t kSums = int64_t{3} * kKeyTiles * kTileFloats;  // of a group
  static constexpr int64_t kGroupWeights = int64_t{3} * 2 * kTileFloats;
  static constexpr int64_t kProducts = int64_t{6} * kTileFloats;
  static_assert(2 * kSums + kMostGroups * kGroupWeights + kProducts <= kTileScratch);

  [[nodiscard]] QueryGroup group(int number) const { return {tile_, number * kGroupQueries}; }
  [[nodiscard]] Span all(int64_t chunk) const { return span_in_chunk(seen_.begin, seen_.end, chunk); }
  [[nodiscard]] float* sums(int number) const { return scratch_.tiles + number % 2 * kSums; }
  [[nodiscard]] float* weights(int number) const {
    return scratch_.tiles + 2 * kSums + number * kGroupWeights;
  }
  [[nodiscard]] float* products() const { return weights(kMostGroups); }

  void take_keys(int64_t chunk) {
    if (chunk * kChunkKeys >= seen_.end) return;
    float* copies = scratch_.keys + kChunkKeys * (size_ / 2 + kLanes);  // behind the tiles
    keys_ =
        tiles_of_keys(keys_of_chunk<T>(tile_, chunk, all(chunk), copies), all(chunk), scratch_.keys, next_);
  }
  /// Multiplies all groups of queries, and folds the products of all but the last.
  void score_all_but_last(int64_t chunk) {
    for (int g = 0; g < groups_; ++g) {
      multiply_group(group(g), keys_, scratch_.q, size_, sums(g), next_);
      if (g > 0) fold(chunk, g - 1);
    }
  }
  void fold(int64_t chunk, int number) {
    const QueryGroup of = group(number);
    const int64_t columns = of.tiles() * 16;
    float* scores = scratch_.scores + of.first * kChunkKeys;
    for (int t = 0; t < kKeyTiles; ++t) {
      next_.ask(8);
      fold_tile_scores(sums(number) + t * kTileKeys * columns, columns, of, scores + t * kTileKeys);
    }
    mend_scores<T>(tile_, chunk, of, keys_, scratch_.scores);
  }
  void take_values(int64_t chunk) {
    float* copies = scratch_.values + kChunkKeys / 2 * size_;  // behind the tiles
    copy_values_to_tiles(values_of_chunk<T>(tile_, chunk, all(chunk), copies), all(chunk), scratch_.values,
                         next_);
  }
  void soften(int64_t chunk) {
    ChunkScales scales;
    unit_ = 1.0F;
    if (!find_scales<T>(tile_, chunk, scratch_, all(chunk), scales)) {
      for (int64_t j = 0; j < kChunkKeys; j += kLanes)
        save(scratch_.value_scales + j, load<F32>(scales.values + j) * kSmallerScale);
      scales.values = scratch_.value_scales;
      unit_ = 1 / kSmallerScale;
    }
    lanes::soften<T>(tile_, chunk, scratch_, scales, state_);
  }
  void make_weights(int64_t chunk) {
    for (int g = 0; g < groups_; ++g)
      copy_weights_to_tiles(tile_, chunk, group(g), scratch_.scores, weights(g));
    waiting_ = chunk;
  }
  /// Adds the values of the last chunk that has weights.
  void add_values() {
    if (waiting_ < 0) return;
    const int64_t steps = whole_steps(all(waiting_).end) / kStepSize;
    for (int g = 0; g < groups_; ++g) {
      add_group({tile_, waiting_, group(g), weights(g), scratch_.values, steps, unit_, state_.out},
                products(), next_);
    }
    waiting_ = -1;
  }

  const AttentionTile& tile_;
  const AttentionScratch& scratch_;
  const AttentionState& state_;
  Span seen_;
  int64_t size_;
  int groups_;
  KeyTiles keys_;
  NextLines next_;        // after the chunk that is scored
  int64_t waiting_ = -1;  // the chunk whose values were not added
  float unit_ = 1;        // of its sums
};

template <class T>
inline void attend_partition_by_tiles(const AttentionTile& tile, int64_t index,
                                      const AttentionScratch& scratch, const AttentionState& state) {
  const Span seen = begin_partition(tile, index, state);
  if (seen.begin >= seen.end) return;
  configure_tiles(16);
  ChunksByTiles<T>(tile, scratch, state, seen).attend();
  release_tiles();
}

template <class How>
inline void attend_any_partition_by_tiles(const AttentionTile& tile, int64_t index,
                                          const AttentionScratch& scratch, const AttentionState& state) {
  visit_cache<typename How::Decoding>(tile.dtype, [&]<class T>() {
    if constexpr (kByTiles<T>) {
      attend_partition_by_tiles<T>(tile, index, scratch, state);
    } else {
      attend_partition<T, typename How::Order>(tile, index, scratch, state);
    }
  });
}

template <class How>
inline void copy_any_queries_to_tiles(const AttentionTile& tile, const AttentionScratch& scratch) {
  visit_cache<typename How::Decoding>(tile.dtype, [&]<class T>() {
    if constexpr (kByTiles<T>) {
      copy_queries_to_tiles<T>(tile, scratch);
    } else {
      copy_queries<T>(tile, scratch.q);
    }
  });
}

}  // namespace lanes

/// By tiles where elements of the cache are or become bfloat16.
template <class How>
inline constexpr AttentionKernels kAttentionKernelsAmx = {
    .prepare = lanes::copy_any_queries_to_tiles<How>,
    .partition = lanes::attend_any_partition_by_tiles<How>,
    .merge = lanes::merge_states,
    .finish = lanes::finish_state<How>,
};

}  // namespace octet::OCTET_ISA
