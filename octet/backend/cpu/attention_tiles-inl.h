// SPDX-License-Identifier: Apache-2.0
/// Queries, keys, weights and values of attention as operands of tile products (tiles_amx.h), for caches
/// whose elements are bfloat16 or become that exactly. A float32 is the sum of three bfloat16, so queries and
/// weights enter as three parts each and nothing is lost: products of bfloat16 are exact in float32.
///
///   scores   keys [16, 32 elements] times queries [32 elements, 16 columns]
///   values   weights [16 rows, 32 keys] times values [32 keys, 16 elements]
///
/// A column of queries, or a row of weights, is one part of one query; the parts are summed apart from each
/// other, then added: the smallest, the middle, the largest. The right operand has two elements of 32, or two
/// keys, in each 32 bits. "Positions" are the elements of a vector in the order in which rows of bfloat16
/// have them (see decode_vector).
#pragma once

#include "octet/backend/cpu/attention_scores-inl.h"

namespace octet::OCTET_ISA::lanes {

template <class T>
inline constexpr bool kByTiles = __is_same(T, bfloat16) || kIsNormalCode<T>;

inline constexpr int kParts = kQueryParts;
inline constexpr int kGroupQueries = 16;  // that are multiplied together
inline constexpr int64_t kStepSize = 32;  // elements, or keys, that one product takes
inline constexpr int64_t kTileFloats = 256;
inline constexpr int kTileKeys = 16;
inline constexpr int kKeyTiles = kChunkKeys / kTileKeys;

/// Elements that whole steps take.
inline int64_t whole_steps(int64_t head_dim) {
  return (head_dim + kStepSize - 1) / kStepSize * kStepSize;
}

/// Some queries of a tile, from `first` on.
struct QueryGroup {
  int first;
  int count;
  QueryGroup(const AttentionTile& tile, int begin)
      : first(begin), count(tile.count - begin < kGroupQueries ? tile.count - begin : kGroupQueries) {}
  /// Columns (of scores) or rows (of weights), and the tiles that have them: part p of query m is number
  /// p * count + m.
  [[nodiscard]] int parts() const { return kParts * count; }
  [[nodiscard]] int tiles() const { return (parts() + 15) / 16; }
  /// Where the queries of this group are among all, each with `size` elements.
  [[nodiscard]] int64_t offset(int64_t size) const { return first * size * kParts / 2; }
};

/// part[0] + part[1] + part[2] is the value, exactly but for what is subnormal. Each is a bfloat16, in the
/// upper half of its lane.
struct Parts {
  I32 part[kParts];
  [[gnu::always_inline]] explicit Parts(F32 value) {
    constexpr auto kUpper = static_cast<int32_t>(0xffff0000U);
    part[2] = as_int(value) & kUpper;
    const F32 rest = value - as_float(part[2]);
    part[1] = as_int(rest) & kUpper;
    part[0] = as_int(rest - as_float(part[1])) & kUpper;
  }
};
/// Lower and upper bfloat16 of each lane.
[[gnu::always_inline]] inline I32 paired(I32 lower, I32 upper) {
  return (I32)((U32)lower >> 16) | upper;
}

/// columns[m], lane j: from[j * stride + m].
[[gnu::always_inline]] inline void transpose_four(const float* from, int64_t stride, F32 (&columns)[4]) {
  using Four = float __attribute__((vector_size(16)));
  F32 part[4];  // lanes 4 l and after: row 4 l + i
  for (int i = 0; i < 4; ++i) {
    Four four[4];
    for (int l = 0; l < 4; ++l) four[l] = load<Four>(from + (4 * l + i) * stride);
    const auto lower = __builtin_shufflevector(four[0], four[1], 0, 1, 2, 3, 4, 5, 6, 7);
    const auto upper = __builtin_shufflevector(four[2], four[3], 0, 1, 2, 3, 4, 5, 6, 7);
    part[i] = __builtin_shufflevector(lower, upper, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  const auto low = [](F32 a, F32 b) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  };
  const auto high = [](F32 a, F32 b) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  };
  const auto low_pairs = [](F32 a, F32 b) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  };
  const auto high_pairs = [](F32 a, F32 b) __attribute__((always_inline)) {
    return __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  };
  const F32 first[2] = {low(part[0], part[1]), high(part[0], part[1])};
  const F32 second[2] = {low(part[2], part[3]), high(part[2], part[3])};
  for (int i = 0; i < 2; ++i) {
    columns[2 * i] = low_pairs(first[i], second[i]);
    columns[2 * i + 1] = high_pairs(first[i], second[i]);
  }
}

/// The element at a position of a row of bfloat16 that has `grouped` of them in whole groups.
template <class T>
inline int64_t element_at(int64_t position, int64_t grouped) {
  if constexpr (kIsNormalCode<T>) {
    if (position < grouped) {
      constexpr int64_t kGroup = 4 * kLanes;
      return position / kGroup * kGroup + code_at(static_cast<int>(position % kGroup));
    }
  }
  return position;
}

/// Elements kFirst, kFirst + 4, ... of 64.
template <int kFirst>
[[gnu::always_inline]] inline F32 every_fourth(const float* from) {
  const auto eight = [from](int64_t at) __attribute__((always_inline)) {
    return __builtin_shufflevector(load<F32>(from + at), load<F32>(from + at + kLanes), kFirst, kFirst + 4,
                                   kFirst + 8, kFirst + 12, kFirst + 16, kFirst + 20, kFirst + 24,
                                   kFirst + 28);
  };
  return __builtin_shufflevector(eight(0), eight(2 * kLanes), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                 14, 15);
}
/// 32 elements of a query as positions have them: the even ones and the odd ones.
struct StepOfQuery {
  F32 even;
  F32 odd;
};
/// In the order of `from`.
[[gnu::always_inline]] inline StepOfQuery step_in_order(const float* from) {
  const auto a = load<F32>(from);
  const auto b = load<F32>(from + kLanes);
  return {__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
          __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
}
template <class T>
[[gnu::always_inline]] inline StepOfQuery step_of_query(const float* q, int64_t head_dim, int64_t step) {
  if (step >= grouped<T>(head_dim)) {
    float rest[kStepSize] = {};
    for (int64_t i = 0; i < kStepSize && step + i < head_dim; ++i) rest[i] = q[step + i];
    return step_in_order(rest);
  }
  if constexpr (kIsNormalCode<T>) {  // see code_at
    const float* group = q + step / (2 * kStepSize) * (2 * kStepSize);
    if (step % (2 * kStepSize) == 0) return {every_fourth<0>(group), every_fourth<1>(group)};
    return {every_fourth<2>(group), every_fourth<3>(group)};
  }
  return step_in_order(q + step);
}
/// The queries as right operands: for each group, for each step, its tiles after each other.
template <class T>
inline void copy_queries_to_tiles(const AttentionTile& tile, const AttentionScratch& scratch) {
  const int64_t size = whole_steps(tile.head_dim);
  for (int first = 0; first < tile.count; first += kGroupQueries) {
    const QueryGroup group(tile, first);
    alignas(64) float columns[3 * kTileFloats] = {};
    float* into = scratch.q + group.offset(size);
    for (int64_t step = 0; step < size; step += kStepSize) {
      for (int m = 0; m < group.count; ++m) {
        const StepOfQuery q = step_of_query<T>(tile.q[first + m], tile.head_dim, step);
        const Parts even(q.even * Units<T>::kQuery);
        const Parts odd(q.odd * Units<T>::kQuery);
        for (int p = 0; p < kParts; ++p)
          save(columns + (p * group.count + m) * kLanes, paired(even.part[p], odd.part[p]));
      }
      for (int t = 0; t < group.tiles(); ++t, into += kTileFloats) {
        for (int r = 0; r < 16; r += 4) {
          F32 four[4];
          transpose_four(columns + t * kTileFloats + r, kLanes, four);
          for (int i = 0; i < 4; ++i) save(into + (r + i) * kLanes, four[i]);
        }
      }
    }
  }
}

/// The lines of the next chunk's keys and values, asked for evenly while this one is computed, as the memory
/// gives them: those that are asked for at once hold up all other loads. One in each tile of 16 in turn (see
/// ask_streams-inl.h).
class NextLines {
 public:
  /// Of nothing.
  NextLines() = default;
  NextLines(const AttentionTile& tile, int64_t chunk, int64_t element_bytes) {
    if (tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys) return;
    const int64_t vector_bytes = tile.head_dim * element_bytes;
    for (int t = 0; t < kKeyTiles; ++t) {
      const int64_t at = place_of(tile, (chunk + 1) * kChunkKeys + t * kTileKeys).vector * vector_bytes;
      keys_[t] = tile.keys + at;
      values_[t] = tile.values + at;
    }
    lines_ = (kTileKeys * vector_bytes + 63) / 64;
    end_ = tile.values == tile.keys ? lines_ : 2 * lines_;
    each_ = (end_ * kWhole + kWork - 1) / kWork;
  }
  /// What is due after so much more of kWork, about what a chunk takes for a few queries.
  [[gnu::always_inline]] void ask(int64_t work) {
    due_ += work * each_;
    for (; next_ * kWhole < due_ && next_ < end_; ++next_) {
      const bool of_keys = next_ < lines_;
      const auto& quarters = of_keys ? keys_ : values_;
      const int64_t offset = (of_keys ? next_ : next_ - lines_) * 64;
      for (const std::byte* quarter : quarters) __builtin_prefetch(quarter + offset, 0, 2);
    }
  }

 private:
  static constexpr int64_t kWhole = 1024;
  static constexpr int64_t kWork = 224;
  const std::byte* keys_[kKeyTiles] = {};
  const std::byte* values_[kKeyTiles] = {};
  int64_t lines_ = 0;  // of a tile of keys
  int64_t end_ = 0;
  int64_t next_ = 0;
  int64_t each_ = 0;  // lines for each unit of work, times kWhole
  int64_t due_ = 0;
};

/// The keys or values of a chunk, 16 after each other from each of `tiles` on.
template <class T>
struct ChunkVectors {
  const T* tiles[kKeyTiles];
  int64_t head_dim;
  [[nodiscard]] const T* vector(int64_t j) const { return tiles[j / kTileKeys] + j % kTileKeys * head_dim; }
};
/// Keys are used where they lie if no tile of 16 lies in two blocks; a tile of which nobody sees a key is
/// another one then.
template <class T>
inline ChunkVectors<T> tiles_in_place(const AttentionTile& tile, int64_t chunk, Span all,
                                      const std::byte* data) {
  ChunkVectors<T> vectors;
  vectors.head_dim = tile.head_dim;
  for (int64_t t = 0; t < kKeyTiles; ++t) {
    const bool seen = t * kTileKeys < all.end && (t + 1) * kTileKeys > all.begin;
    const int64_t first = chunk * kChunkKeys + (seen ? t : all.begin / kTileKeys) * kTileKeys;
    vectors.tiles[t] = reinterpret_cast<const T*>(data) + place_of(tile, first).vector * tile.head_dim;
  }
  return vectors;
}
/// Copied to `spare`, up to the last step of keys that anyone sees; zeros for others.
template <class T>
inline ChunkVectors<T> copied_vectors(const AttentionTile& tile, int64_t chunk, Span all,
                                      const std::byte* data, float* spare) {
  const T* from = reinterpret_cast<const T*>(data);
  T* into = reinterpret_cast<T*>(spare);
  const auto bytes_of = [&](int64_t count) { return static_cast<size_t>(count * tile.head_dim) * sizeof(T); };
  const auto clear = [&](int64_t begin, int64_t end) {
    __builtin_memset(static_cast<void*>(into + begin * tile.head_dim), 0, bytes_of(end - begin));
  };
  clear(0, all.begin);
  for (int64_t j = all.begin; j < all.end;) {
    const auto [vector, left] = place_of(tile, chunk * kChunkKeys + j);
    const int64_t count = left < all.end - j ? left : all.end - j;
    __builtin_memcpy(static_cast<void*>(into + j * tile.head_dim), from + vector * tile.head_dim,
                     bytes_of(count));
    j += count;
  }
  clear(all.end, whole_steps(all.end));
  ChunkVectors<T> vectors;
  vectors.head_dim = tile.head_dim;
  for (int64_t t = 0; t < kKeyTiles; ++t) vectors.tiles[t] = into + t * kTileKeys * tile.head_dim;
  return vectors;
}
/// For keys, of which those that nobody sees may be anything.
template <class T>
inline ChunkVectors<T> keys_of_chunk(const AttentionTile& tile, int64_t chunk, Span all, float* spare) {
  if (tile.block_size % kTileKeys == 0) return tiles_in_place<T>(tile, chunk, all, tile.keys);
  return copied_vectors<T>(tile, chunk, all, tile.keys, spare);
}
/// For values, of which those that nobody sees are zero, as their weights are.
template <class T>
inline ChunkVectors<T> values_of_chunk(const AttentionTile& tile, int64_t chunk, Span all, float* spare) {
  if (tile.block_size % kTileKeys == 0 && all.end - all.begin == kChunkKeys)
    return tiles_in_place<T>(tile, chunk, all, tile.values);
  return copied_vectors<T>(tile, chunk, all, tile.values, spare);
}

/// Keys as left operands: rows of bfloat16 in whole steps, `stride` bytes apart.
struct KeyTiles {
  const std::byte* tiles[kKeyTiles];
  int64_t stride;
  [[nodiscard]] const bfloat16* row(int64_t j) const {
    return reinterpret_cast<const bfloat16*>(tiles[j / kTileKeys] + j % kTileKeys * stride);
  }
};
/// Elements from `from` on of a vector, up to its end, as bfloat16; zeros up to a whole number of steps.
template <class T>
[[gnu::always_inline]] inline void copy_rest(const T* vector, int64_t from, int64_t head_dim,
                                             bfloat16* into) {
  int64_t written = head_dim - from;
  if constexpr (kIsNormalCode<T>) {
    decode_vector(vector + from, head_dim - from, into);
    written = padded(head_dim - from);
  } else {
    __builtin_memcpy(static_cast<void*>(into), vector + from, static_cast<size_t>(written) * sizeof(T));
  }
  const int64_t size = whole_steps(head_dim - from);
  if (written < size)
    __builtin_memset(static_cast<void*>(into + written), 0, static_cast<size_t>(size - written) * 2);
}
/// bfloat16 in whole steps are used where they lie; others are copied to `spare`, and `next` is asked for
/// meanwhile.
template <class T>
inline KeyTiles tiles_of_keys(const ChunkVectors<T>& vectors, Span all, float* spare, NextLines& next) {
  const int64_t size = whole_steps(vectors.head_dim);
  KeyTiles keys;
  if (!kIsNormalCode<T> && size == vectors.head_dim) {
    keys.stride = size * 2;
    for (int t = 0; t < kKeyTiles; ++t) keys.tiles[t] = reinterpret_cast<const std::byte*>(vectors.tiles[t]);
    return keys;
  }
  keys.stride = size * 2 + 64;  // no power of two: so that rows lie in all sets of the first cache
  auto* into = reinterpret_cast<std::byte*>(spare);
  for (int t = 0; t < kKeyTiles; ++t) keys.tiles[t] = into + t * kTileKeys * keys.stride;
  for (int64_t j = all.begin; j < all.end; ++j) {
    next.ask(1);
    copy_rest(vectors.vector(j), 0, vectors.head_dim, reinterpret_cast<bfloat16*>(into + j * keys.stride));
  }
  return keys;
}

/// The elements of two keys side by side, 16 of them in each of two tiles of values: of those that lie in
/// whole groups the even ones and the odd ones, as their Group has them; of others in their own order.
[[gnu::always_inline]] inline void pair_groups(I32 first, I32 second, float* into) {
  save(into, (first & 0xffff) | (second << 16));
  save(into + kTileFloats, paired(first, second & static_cast<int32_t>(0xffff0000U)));
}
[[gnu::always_inline]] inline void pair_in_order(Halves a, Halves b, float* into) {
  save(into, __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9,
                                     41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47));
  save(into + kTileFloats,
       __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56,
                               25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63));
}
template <class T>
[[gnu::always_inline]] inline void pair_vectors(const T* first, const T* second, int64_t head_dim,
                                                float* into) {
  const int64_t in_groups = grouped<T>(head_dim);
  int64_t x = 0;
  if constexpr (kIsNormalCode<T>) {
    for (; x < in_groups; x += 2 * kStepSize, into += 4 * kTileFloats) {
      const NormalHalves a = decoded_group(first + x);
      const NormalHalves b = decoded_group(second + x);
      pair_groups((I32)a.first, (I32)b.first, into);
      pair_groups((I32)a.second, (I32)b.second, into + 2 * kTileFloats);
    }
  } else {
    for (; x < in_groups; x += kStepSize, into += 2 * kTileFloats)
      pair_groups(load<I32>(first + x), load<I32>(second + x), into);
  }
  if (x == head_dim) return;
  alignas(64) bfloat16 rest[2][2 * kStepSize];  // less than a group
  copy_rest(first, x, head_dim, rest[0]);
  copy_rest(second, x, head_dim, rest[1]);
  for (int64_t i = 0; x + i < head_dim; i += kStepSize, into += 2 * kTileFloats)
    pair_in_order(load<Halves>(rest[0] + i), load<Halves>(rest[1] + i), into);
}
/// The values of a chunk as right operands: for each step of keys the tiles of 16 elements after each other.
/// Row r has keys r and r + 16 of the step. Asks for `next` meanwhile.
template <class T>
inline void copy_values_to_tiles(const ChunkVectors<T>& vectors, Span all, float* into, NextLines& next) {
  for (int64_t t = 0; t * kTileKeys < all.end; t += 2) {
    const T* first = vectors.tiles[t];
    const T* second = vectors.tiles[t + 1];
    for (int64_t r = 0; r < kTileKeys; ++r, first += vectors.head_dim, second += vectors.head_dim) {
      next.ask(2);
      pair_vectors(first, second, vectors.head_dim, into + r * kLanes);
    }
    into += kStepSize / 2 * whole_steps(vectors.head_dim);
  }
}

/// The weights of a group as left operands, for each 16 rows two tiles: rows of 32 keys in the pairs of
/// copy_values_to_tiles. Zero for keys that a query does not see.
inline void copy_weights_to_tiles(const AttentionTile& tile, int64_t chunk, const QueryGroup& group,
                                  const float* scores, float* into) {
  for (int m = 0; m < group.count; ++m) {
    const int query = group.first + m;
    const Span span = span_in_chunk(tile.begin[query], tile.end[query], chunk);
    const float* weights = scores + query * kChunkKeys;
    const bool whole = span.end - span.begin == kChunkKeys;
    const auto seen_weights = [&](int64_t j) __attribute__((always_inline)) {
      const F32 all = load<F32>(weights + j);
      return whole ? all : as_float(as_int(all) & seen_lanes(span, j));
    };
    for (int64_t step = 0; step < kChunkKeys / kStepSize; ++step) {
      const Parts first(seen_weights(step * kStepSize));
      const Parts second(seen_weights(step * kStepSize + kTileKeys));
      for (int p = 0; p < kParts; ++p) {
        const int row = p * group.count + m;
        save(into + (row / 16 * 2 + step) * kTileFloats + row % 16 * kLanes,
             paired(first.part[p], second.part[p]));
      }
    }
  }
}

}  // namespace octet::OCTET_ISA::lanes
