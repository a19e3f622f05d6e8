// SPDX-License-Identifier: Apache-2.0
/// How attention reads the paged cache: whole registers of it at a time, taken apart into vectors of float32
/// without a move between lanes. So a vector of 16-bit or 8-bit elements has every second or fourth of them,
/// queries and sums are kept in that order too, and are put back at the end. FP8 codes are used without their
/// scales, those enter once for each score and each weight.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/normal_lanes-inl.h"
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

/// Where a key's vector (and its scale) is in the cache, and how many follow it in its block.
struct Place {
  int64_t vector;
  int64_t left;  // this one included
};
inline Place place_of(const AttentionTile& tile, int64_t position) {
  const auto number = static_cast<uint32_t>(position);  // 32 bits: division takes half as long
  const auto size = static_cast<uint32_t>(tile.block_size);
  const int64_t block = tile.blocks[number / size];
  const int64_t offset = number % size;
  return {(block * tile.heads + tile.head) * tile.block_size + offset, tile.block_size - offset};
}

/// Inlined: a call of a function that does nothing else is dropped.
[[gnu::always_inline]] inline void prefetch_bytes(const std::byte* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/// For the codes of float8_e4m3 (kMantissa 3) and float8_e5m2 (2) that are to become no subnormal float32.
/// `Decoding` makes them bfloat16: see normal_lanes-inl.h. From there on they are used as a cache of those
/// is.
template <class Decoding, int kMantissa>
struct NormalCode {
  uint8_t bits;
};
template <class T>
inline constexpr bool kIsNormalCode = false;
template <class Decoding, int kMantissa>
inline constexpr bool kIsNormalCode<NormalCode<Decoding, kMantissa>> = true;

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
template <class Decoding, int kMantissa>
struct Group<NormalCode<Decoding, kMantissa>> {
  static constexpr int kVectors = 4;
};

/// The same value in all lanes, in memory.
struct alignas(4 * kLanes) Mask {
  int32_t lanes[kLanes];
};
constexpr Mask mask_of(int32_t value) {
  Mask mask{};
  for (int32_t& lane : mask.lanes) lane = value;
  return mask;
}
template <int32_t kValue>
inline constexpr Mask kMask = mask_of(kValue);

/// What is kept of each lane by vector_in_place: made anew for each few vectors.
template <class T>
struct KeptBits {};
template <>
struct KeptBits<bfloat16> {
  I32 bits = loaded_here(kMask<static_cast<int32_t>(0xffff0000U)>.lanes);
};
template <>
struct KeptBits<float8_e4m3> {
  I32 bits = loaded_here(kMask<CodeGroup<4>::kKept>.lanes);
};
template <>
struct KeptBits<float8_e5m2> {
  I32 bits = loaded_here(kMask<CodeGroup<5>::kKept>.lanes);
};

/// Vector p of the group at `from`, bit for bit what Group gives. Read from where no element has to move to
/// the left, as shifts take ports that multiply-adds need: so up to 3 bytes before the group are read, too.
template <class T, int p>
[[gnu::always_inline]] inline F32 vector_in_place(const T* from, [[maybe_unused]] const KeptBits<T>& kept) {
  if constexpr (__is_same(T, bfloat16)) {
    return as_float(load<I32>(from + p - 1) & kept.bits);
  } else if constexpr (sizeof(T) == 1) {
    constexpr int kExponentBits = __is_same(T, float8_e4m3) ? 4 : 5;
    return as_float((load<I32>(from + p - 3) >> (8 - kExponentBits)) & kept.bits);
  } else {
    return widen(from);
  }
}

/// The powers of two that stand in for those of CodeGroup and NormalCode: what queries and weights
/// (2^kWeight) are multiplied with, so that no product is too small or too large for float32, and what gives
/// scores and outputs their own size.
template <class T>
struct Units {
  static constexpr int kWeight = 0;
  static constexpr float kQuery = 1, kScore = 1, kOut = 1, kSum = 1;
};
struct CodeUnits {
  static constexpr int kWeight = 64;
  static constexpr float kQuery = 0x1p40F, kSum = 0x1p-64F;
};
template <>
struct Units<float8_e4m3> : CodeUnits {
  static constexpr float kScore = 0x1p80F, kOut = 0x1p56F;
};
template <>
struct Units<float8_e5m2> : CodeUnits {
  static constexpr float kScore = 0x1p72F, kOut = 0x1p48F;
};
template <class Decoding>
struct Units<NormalCode<Decoding, 3>> : CodeUnits {
  static constexpr float kScore = 0x1p64F, kOut = 0x1p40F;
};
template <class Decoding>
struct Units<NormalCode<Decoding, 2>> : CodeUnits {
  static constexpr float kScore = 0x1p40F, kOut = 0x1p16F;
};
/// From here on a scale times 2^kWeight may be too large: such values are scaled themselves.
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

[[gnu::always_inline]] inline void save_halves(bfloat16* into, Halves value) {
  __builtin_memcpy(static_cast<void*>(into), &value, sizeof(value));
}

template <class Decoding, int kMantissa>
[[gnu::always_inline]] inline NormalHalves decoded_group(const NormalCode<Decoding, kMantissa>* codes) {
  return Decoding::template halves<kMantissa>(load<Bytes>(codes));
}

/// One vector of codes to a row of bfloat16, padded with zeros. In whole groups their order is such that
/// groups of bfloat16 give the vectors of groups of codes; the rest stays in order.
template <class Decoding, int kMantissa>
[[gnu::always_inline]] inline void decode_vector(const NormalCode<Decoding, kMantissa>* from,
                                                 int64_t head_dim, bfloat16* into) {
  constexpr int64_t kGroup = 4 * kLanes;
  const auto decode = [](const auto* codes, bfloat16* to) __attribute__((always_inline)) {
    const auto [first, second] = decoded_group(codes);
    save_halves(to, first);
    save_halves(to + kGroup / 2, second);
  };
  int64_t d = 0;
  for (; d + kGroup <= head_dim; d += kGroup) decode(from + d, into + d);
  if (d == head_dim) return;
  NormalCode<Decoding, kMantissa> codes[kGroup] = {};
  bfloat16 last[kGroup];
  for (int place = 0; d + place < head_dim; ++place) codes[code_at(place)] = from[d + place];
  decode(codes, last);
  __builtin_memcpy(static_cast<void*>(into + d), last,
                   static_cast<size_t>(padded(head_dim) - d) * sizeof(bfloat16));
}
template <class Decoding, int kMantissa>
inline void widen_vector(const NormalCode<Decoding, kMantissa>* from, int64_t head_dim, float* into) {
  constexpr int64_t kGroup = 4 * kLanes;
  bfloat16 part[kGroup];
  int64_t d = 0;
  for (; d + kGroup <= head_dim; d += kGroup) {
    decode_vector(from + d, kGroup, part);
    widen_vector(part, kGroup, into + d);
  }
  if (d == head_dim) return;
  decode_vector(from + d, head_dim - d, part);
  for (int64_t i = 0; d + i < padded(head_dim); i += kLanes) save(into + d + i, widen_in_order(part + i));
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
    auto [vector, left] = place_of(tile, position);
    const int64_t end = j + left < span.end ? j + left : span.end;
    const std::byte* ahead = other + place_of(tile, position + ahead_by).vector * bytes;
    for (; j < end; ++j, ++vector, ahead += bytes) {
      prefetch_bytes(ahead, bytes);
      widen_vector(reinterpret_cast<const T*>(data + vector * bytes), tile.head_dim,
                   rows + j * widened_stride(padded(tile.head_dim)));
    }
  }
}

/// The scales of a chunk, zero for keys that nobody sees: where they lie if they follow each other there,
/// else gathered into `into`.
inline const float* scales_of_chunk(const AttentionTile& tile, const float* scales, int64_t chunk, Span span,
                                    float* into) {
  const Place first = place_of(tile, chunk * kChunkKeys + span.begin);
  if (span.end - span.begin == kChunkKeys && first.left >= kChunkKeys) return scales + first.vector;
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) save(into + j, F32{});
  for (int64_t j = span.begin; j < span.end;) {
    const auto [vector, left] = place_of(tile, chunk * kChunkKeys + j);
    const int64_t count = left < span.end - j ? left : span.end - j;
    __builtin_memcpy(into + j, scales + vector, static_cast<size_t>(count) * 4);
    j += count;
  }
  return into;
}
/// Asks for the scales that are used after the values of the chunk before are added: those of this chunk's
/// keys, and the next one's values if there are so many.
inline void ask_for_scales(const AttentionTile& tile, int64_t chunk, const float* of_keys) {
  const int64_t next = (chunk + 1) * kChunkKeys;
  const bool more = next < tile.end[tile.count - 1];
  const float* scales = tile.values == tile.keys ? tile.key_scales : tile.value_scales;
  const float* of_values = more ? scales + place_of(tile, next).vector : of_keys;
  for (int64_t j = 0; j < kChunkKeys; j += 16) {
    __builtin_prefetch(of_keys + j, 0, 3);
    __builtin_prefetch(of_values + j, 0, 3);
  }
}
/// Whether all fit into a weight.
inline bool are_small(const float* scales) {
  I32 small = splat(-1);
  for (int64_t j = 0; j < kChunkKeys; j += kLanes) small &= load<F32>(scales + j) < kLargestWeightScale;
  return !any((Halves)~small);
}

/// Keys or values in float32 rows, as widen_chunk leaves them: key j of the chunk is row j.
struct WidenedRows {
  using Element = float;
  const float* rows;
  int64_t size;  // of a vector, padded

  [[gnu::always_inline]] const float* vector(int64_t j) const { return rows + j * widened_stride(size); }
  [[nodiscard]] int64_t stride() const { return widened_stride(size); }
  [[nodiscard]] int64_t grouped_size() const { return size; }
};

/// Where the lines of what is needed next are asked for: one after another,
struct AskedInOrder {
  static const std::byte* line(const std::byte* all, int64_t offset, int64_t /*size*/) {
    return all + offset;
  }
};
/// or in each quarter of all `size` bytes in turn. See ask_streams-inl.h.
struct AskedInQuarters {
  static const std::byte* line(const std::byte* all, int64_t offset, int64_t size) {
    return all + (offset >> 2 & ~int64_t{63}) + (offset >> 6 & 3) * (size >> 2);
  }
};

/// What is needed next.
struct Ahead {
  const std::byte* data;
  int64_t size;
};

/// The same where they lie in the cache, those of one block, widened at each use: bit for bit what
/// widen_chunk makes of them. Their size is a multiple of kHeadPadding. Three bytes before them can be read.
template <class T, class Order>
struct CachedRows {
  using Element = T;
  using Stored = T;
  using Asked = Order;
  const T* first;  // of key `begin` of the chunk
  int64_t begin;
  int64_t head_dim;
  Ahead ahead;  // asked for meanwhile

  [[gnu::always_inline]] const T* vector(int64_t j) const { return first + (j - begin) * head_dim; }
  [[nodiscard]] int64_t stride() const { return head_dim; }
  [[nodiscard]] int64_t grouped_size() const { return grouped<T>(head_dim); }
};

/// Codes decoded to rows of bfloat16 in memory, padded with zeros. One element before them can be read.
template <class T, class Order>
struct DecodedRows {
  using Element = bfloat16;
  using Stored = T;
  using Asked = Order;
  const bfloat16* first;  // of key `begin` of the chunk
  int64_t begin;
  int64_t head_dim;
  Ahead ahead;

  [[gnu::always_inline]] const bfloat16* vector(int64_t j) const { return first + (j - begin) * stride(); }
  [[nodiscard]] int64_t stride() const { return widened_stride(padded(head_dim)); }
  [[nodiscard]] int64_t grouped_size() const { return grouped<T>(head_dim); }
};

/// Asks for what is needed next in steps, from `element` of it on.
template <class Rows>
struct Asking {
  Asking(const Rows& /*rows*/, bool /*asks*/, int64_t /*element*/) {}
  [[gnu::always_inline]] void next(int64_t /*elements*/) {}
};
template <class Rows>
  requires requires(const Rows& rows) { rows.ahead; }
struct Asking<Rows> {
  static constexpr int64_t kBytes = sizeof(typename Rows::Stored);
  Ahead all;
  int64_t offset = 0;
  int64_t step = 0;  // for an element
  [[gnu::always_inline]] Asking(const Rows& rows, bool asks, int64_t element)
      : all{reinterpret_cast<const std::byte*>(rows.first), 0} {
    if (!asks) return;
    all = rows.ahead;
    offset = element * kBytes;
    step = kBytes;
  }
  [[gnu::always_inline]] void next(int64_t elements) {
    for (int64_t i = 0; i < elements * kBytes; i += 64)
      __builtin_prefetch(Rows::Asked::line(all.data, offset + i, all.size), 0, 2);
    offset += elements * step;
  }
};

/// Asks for the line of which vector_in_place reads a few bytes before the vectors at `first`. Nothing else
/// asks for it, and waiting for it took a tenth of the time. Into the first cache and twice: processors drop
/// what is asked for while they are busy, the more readily the further from the first cache.
template <class T>
[[gnu::always_inline]] inline void ask_before(const std::byte* first) {
  if constexpr (sizeof(T) <= 2 && !kIsNormalCode<T>) __builtin_prefetch(first - 1, 0, 3);
}

/// The rows of `count` vectors of the cache from number `vector` on, keys `begin` and after of their chunk:
/// used where they lie, but for those that the cache begins with, before which nothing can be read. `spare`
/// takes a copy of those.
template <class T, class Order>
inline CachedRows<T, Order> rows_of_cache(const AttentionTile& tile, const std::byte* data, int64_t vector,
                                          int64_t begin, int64_t count, Ahead ahead, float* spare) {
  const int64_t bytes = tile.head_dim * static_cast<int64_t>(sizeof(T));
  const std::byte* first = data + vector * bytes;
  if (vector == 0) {
    __builtin_memcpy(spare + kLanes, first, static_cast<size_t>(count * bytes));
    first = reinterpret_cast<const std::byte*>(spare + kLanes);
  }
  return {reinterpret_cast<const T*>(first), begin, tile.head_dim, ahead};
}
/// The same of codes to be decoded, into `spare`.
template <class T, class Order>
  requires kIsNormalCode<T>
[[gnu::noinline]] DecodedRows<T, Order> rows_of_cache(const AttentionTile& tile, const std::byte* data,
                                                      int64_t vector, int64_t begin, int64_t count,
                                                      Ahead ahead, float* spare) {
  auto* first = reinterpret_cast<bfloat16*>(spare + kLanes);
  const DecodedRows<T, Order> rows = {first, begin, tile.head_dim, ahead};
  const T* codes = reinterpret_cast<const T*>(data) + vector * tile.head_dim;
  for (int64_t j = 0; j < count; ++j, codes += tile.head_dim) {
    decode_vector(codes, tile.head_dim, first + j * rows.stride());
  }
  return rows;
}

/// Calls body(part, rows) for the keys or values of a chunk, block by block of the cache. `spare` is for
/// vectors that are not used where they lie.
template <class T, class Order, class Body>
inline void for_blocks(const AttentionTile& tile, int64_t chunk, Span span, const std::byte* data,
                       float* spare, Body&& body) {
  const int64_t ahead_by = tile.end[tile.count - 1] < (chunk + 2) * kChunkKeys ? 0 : kChunkKeys;
  const int64_t bytes = tile.head_dim * static_cast<int64_t>(sizeof(T));
  for (int64_t j = span.begin; j < span.end;) {
    const int64_t position = chunk * kChunkKeys + j;
    const auto [vector, left] = place_of(tile, position);
    const int64_t end = j + left < span.end ? j + left : span.end;
    const Ahead ahead = {data + place_of(tile, position + ahead_by).vector * bytes, (end - j) * bytes};
    ask_before<T>(ahead.data);
    body(Span{j, end}, rows_of_cache<T, Order>(tile, data, vector, j, end - j, ahead, spare));
    ask_before<T>(ahead.data);
    j = end;
  }
}

}  // namespace octet::OCTET_ISA::lanes
