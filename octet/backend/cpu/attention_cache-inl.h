// SPDX-License-Identifier: Apache-2.0
/// How attention reads the paged cache: whole registers of it at a time, taken apart into vectors of float32
/// without a move between lanes. So a vector of 16-bit or 8-bit elements has every second or fourth of them,
/// queries and sums are kept in that order too, and are put back at the end. FP8 codes are used without their
/// scales, those enter once for each score and each weight.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/ops_kernels.h"

namespace octet::OCTET_ISA::lanes {

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

/// Inlined: a call of a function that does nothing else is dropped.
[[gnu::always_inline]] inline void prefetch_bytes(const std::byte* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/// A register full of the cache: vector p has its elements p, p + kVectors, p + 2 * kVectors, ...
template <class T>
struct Group {
  static constexpr int kVectors = 1;
  F32 only;
  [[gnu::always_inline]] explicit Group(const T* from) : only(widen(from)) {}
  [[gnu::always_inline]] F32 vector(int /*p*/) const { return only; }
};
template <>
struct Group<bfloat16> {
  static constexpr int kVectors = 2;
  I32 pairs;
  [[gnu::always_inline]] explicit Group(const bfloat16* from) : pairs(load<I32>(from)) {}
  [[gnu::always_inline]] F32 vector(int p) const {
    return as_float(p == 0 ? pairs << 16 : pairs & static_cast<int32_t>(0xffff0000U));
  }
};
/// Finite codes, as kv_store writes them: moved to where a float32 has its exponent and mantissa they are
/// their values times 2^-(127 - bias), subnormal codes too.
template <int kExponentBits>
struct CodeGroup {
  static constexpr int kVectors = 4;
  static constexpr int32_t kKept = static_cast<int32_t>(0x80000000U | (0x7fU << (16 + kExponentBits)));
  I32 even;  // of each two bytes the first, in 16 bits, with copies of the sign before it; and the second
  I32 odd;
  [[gnu::always_inline]] explicit CodeGroup(const void* from) {
    const auto codes = load<Halves>(from);
    even = (I32)even_bytes_shifted<kExponentBits>(codes);
    odd = (I32)odd_bytes_shifted<kExponentBits>(codes);
  }
  [[gnu::always_inline]] F32 vector(int p) const {
    const I32 bits = p % 2 == 0 ? even : odd;
    return as_float((p < 2 ? bits << 16 : bits) & kKept);
  }
};
template <>
struct Group<float8_e4m3> : CodeGroup<4> {
  using CodeGroup::CodeGroup;
};
template <>
struct Group<float8_e5m2> : CodeGroup<5> {
  using CodeGroup::CodeGroup;
};

/// The powers of two that stand in for those of CodeGroup: what queries and weights are multiplied with, so
/// that no product is too small or too large for float32, and what gives scores and outputs their own size.
template <class T>
struct Units {
  static constexpr float kQuery = 1, kScore = 1, kWeight = 1, kOut = 1;
};
template <>
struct Units<float8_e4m3> {
  static constexpr float kQuery = 0x1p40F, kScore = 0x1p80F, kWeight = 0x1p64F, kOut = 0x1p56F;
};
template <>
struct Units<float8_e5m2> {
  static constexpr float kQuery = 0x1p40F, kScore = 0x1p72F, kWeight = 0x1p64F, kOut = 0x1p48F;
};
/// From here on a scale times kWeight may be too large: such values are scaled themselves.
inline constexpr float kLargestWeightScale = 0x1p60F;

/// One vector of elements as they follow each other, in the same units.
template <class T>
[[gnu::always_inline]] inline F32 widen_in_order(const T* from) {
  if constexpr (sizeof(T) > 1) {
    return widen(from);
  } else {
    constexpr int kExponentBits = __is_same(T, float8_e4m3) ? 4 : 5;
    return as_float((load_signed_bytes(from) << (16 + kExponentBits)) & CodeGroup<kExponentBits>::kKept);
  }
}

/// Elements that come in whole groups; those after them stay in order.
template <class T>
inline int64_t grouped(int64_t head_dim) {
  constexpr int64_t kGroup = Group<T>::kVectors * kLanes;
  return head_dim / kGroup * kGroup;
}
/// Calls body(place, element): which element of a vector of the cache is at which place of its vectors of
/// float32.
template <class T, class Body>
[[gnu::always_inline]] inline void for_places(int64_t head_dim, Body&& body) {
  constexpr int64_t kVectors = Group<T>::kVectors;
  int64_t d = 0;
  for (; d < grouped<T>(head_dim); d += kVectors * kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
#pragma GCC unroll 4
      for (int64_t p = 0; p < kVectors; ++p) body(d + p * kLanes + lane, d + lane * kVectors + p);
    }
  }
  for (; d < head_dim; ++d) body(d, d);
}

/// One vector of the cache to a row of float32, padded with zeros.
template <class T>
inline void widen_vector(const T* from, int64_t head_dim, float* into) {
  int64_t d = 0;
  for (; d < grouped<T>(head_dim); d += Group<T>::kVectors * kLanes) {
    const Group<T> group(from + d);
#pragma GCC unroll 4
    for (int p = 0; p < Group<T>::kVectors; ++p) save(into + d + p * kLanes, group.vector(p));
  }
  for (; d + kLanes <= head_dim; d += kLanes) save(into + d, widen_in_order(from + d));
  if (d < head_dim) {
    T part[kLanes] = {};
    __builtin_memcpy(part, from + d, static_cast<size_t>(head_dim - d) * sizeof(T));
    save(into + d, widen_in_order(part));
    d += kLanes;
  }
  for (; d < padded(head_dim); d += kLanes) save(into + d, F32{});
}

/// Widens the vectors of a chunk, block by block of the cache; those needed next are asked for meanwhile: the
/// chunk's values, or the keys that follow it.
template <class T>
inline void widen_chunk(const AttentionTile& tile, int64_t chunk, Span span, bool is_keys, float* rows) {
  const std::byte* data = is_keys ? tile.keys : tile.values;
  const std::byte* other = is_keys ? tile.values : tile.keys;
  const int64_t ahead_by = is_keys || tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys ? 0 : kChunkKeys;
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
                   rows + j * widened_stride(padded(tile.head_dim)));
    }
  }
}

/// The scales of a chunk, zero for keys that nobody sees. Returns whether all are below
/// kLargestWeightScale.
inline bool gather_scales(const AttentionTile& tile, const float* scales, int64_t chunk, Span span,
                          float* into) {
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) save(into + j, F32{});
  I32 small = splat(-1);
  for (int64_t j = span.begin; j < span.end;) {
    const int64_t position = chunk * kChunkKeys + j;
    const int64_t left = tile.block_size - position % tile.block_size;
    const int64_t count = left < span.end - j ? left : span.end - j;
    __builtin_memcpy(into + j, scales + vector_of(tile, position), static_cast<size_t>(count) * 4);
    j += count;
  }
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) small &= load<F32>(into + j) < kLargestWeightScale;
  return sum_of(small) == -kLanes;
}

/// Keys or values in float32 rows, as widen_chunk leaves them: key j of the chunk is row j.
struct WidenedRows {
  using Element = float;
  const float* rows;
  int64_t size;  // of a vector, padded

  [[gnu::always_inline]] const float* vector(int64_t j) const { return rows + j * widened_stride(size); }
  [[nodiscard]] int64_t grouped_size() const { return size; }
  void prefetch(int64_t /*j*/) const {}
  void prefetch_at(int64_t /*j*/, int64_t /*d*/) const {}
};

/// The same where they lie in the cache, those of one block, widened at each use: bit for bit what
/// widen_chunk makes of them. Their size is a multiple of kHeadPadding.
template <class T>
struct CachedRows {
  using Element = T;
  const T* first;  // of key `begin` of the chunk
  int64_t begin;
  int64_t head_dim;
  const std::byte* ahead;  // what is needed next: asked for meanwhile

  [[gnu::always_inline]] const T* vector(int64_t j) const { return first + (j - begin) * head_dim; }
  [[nodiscard]] int64_t grouped_size() const { return grouped<T>(head_dim); }
  [[gnu::always_inline]] void prefetch(int64_t j) const {
    const int64_t bytes = head_dim * static_cast<int64_t>(sizeof(T));
    prefetch_bytes(ahead + (j - begin) * bytes, bytes);
  }
  /// One line of it.
  [[gnu::always_inline]] void prefetch_at(int64_t j, int64_t d) const {
    __builtin_prefetch(ahead + ((j - begin) * head_dim + d) * static_cast<int64_t>(sizeof(T)), 0, 2);
  }
};

/// Calls body(part, rows) for the keys or values of a chunk, block by block of the cache.
template <class T, class Body>
inline void for_blocks(const AttentionTile& tile, int64_t chunk, Span span, bool is_keys, Body&& body) {
  const std::byte* data = is_keys ? tile.keys : tile.values;
  const int64_t ahead_by = tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys ? 0 : kChunkKeys;
  const int64_t bytes = tile.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t j = span.begin; j < span.end;) {
    const int64_t position = chunk * kChunkKeys + j;
    const int64_t vector = vector_of(tile, position);
    const int64_t left = tile.block_size - position % tile.block_size;
    const int64_t end = j + left < span.end ? j + left : span.end;
    const CachedRows<T> rows = {reinterpret_cast<const T*>(data + vector * bytes), j, tile.head_dim,
                                data + vector_of(tile, position + ahead_by) * bytes};
    body(Span{j, end}, rows);
    j = end;
  }
}

}  // namespace octet::OCTET_ISA::lanes
