// SPDX-License-Identifier: Apache-2.0
/// What lanes-inl.h builds on, for any processor (vectors of 16 bytes): the number of lanes and the
/// operations that the compiler's vector types lack.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA::lanes {

inline constexpr int kLanes = 4;

using F32 = float __attribute__((vector_size(4 * kLanes)));
using I32 = int32_t __attribute__((vector_size(4 * kLanes)));
using F64 = double __attribute__((vector_size(4 * kLanes)));  // half as many lanes
using U32 = uint32_t __attribute__((vector_size(4 * kLanes)));
using U8 = uint8_t __attribute__((vector_size(kLanes)));
using Halves = uint16_t __attribute__((vector_size(4 * kLanes)));  // a full register of 16-bit lanes
using Bytes = uint8_t __attribute__((vector_size(4 * kLanes)));    // a full register of bytes
using U16 = uint16_t __attribute__((vector_size(2 * kLanes)));     // one for each float lane

/// Whether fma rounds the product before the sum.
inline constexpr bool kProductRounded = true;
inline F32 fma(F32 a, F32 b, F32 c) {
  return a * b + c;
}
/// 2^112 times the bits read as a float32 of five exponent bits; subnormals come out right, specials are put
/// in.
inline F32 from_half(U16 bits) {
  const I32 wide = __builtin_convertvector(bits, I32);
  const I32 sign = (wide & 0x8000) << 16;
  const I32 rest = (wide & 0x7fff) << 13;
  const I32 value = (I32)((F32)(rest) * 0x1p112F);
  const I32 quiet = (wide & 0x7fff) > 0x7c00 ? I32{} + 0x00400000 : I32{};
  return (F32)(sign | ((wide & 0x7c00) == 0x7c00 ? (rest | 0x7f800000 | quiet) : value));
}
/// As to_float16 of octet/core/bfloat16.h, lane by lane.
inline U16 to_half(F32 value) {
  const I32 bits = (I32)(value);
  const I32 size = bits & 0x7fffffff;
  const I32 small = (I32)((F32)(size) + 0.5F) - 0x3f000000;
  const I32 above = (size + 0xfff + ((size >> 13) & 1) - (112 << 23)) >> 13;
  const I32 normal = above > 0x7c00 ? I32{} + 0x7c00 : above;
  const I32 finite = size < (113 << 23) ? small : normal;
  const I32 code = size > 0x7f800000 ? (0x7e00 | ((size >> 13) & 0x3ff)) : finite;
  return __builtin_convertvector(((bits >> 16) & 0x8000) | code, U16);
}

/// The lower and the upper lanes.
inline F64 low_doubles(F32 v) {
  return F64{static_cast<double>(v[0]), static_cast<double>(v[1])};
}
inline F64 high_doubles(F32 v) {
  return F64{static_cast<double>(v[2]), static_cast<double>(v[3])};
}

/// Lane i of the result is the sum of the lanes of v[i], always added in the same order.
inline F32 sum_each(const F32* v) {
  const auto pairs = [](F32 a, F32 b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
  };
  return pairs(pairs(v[0], v[1]), pairs(v[2], v[3]));
}

/// Lane i of the result is lane i + by of v or i - by (halves of halves change places); by is a power of two.
inline F32 moved_down(F32 v, int by) {
  return by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1) : __builtin_shufflevector(v, v, 1, 0, 3, 2);
}
/// The first or the second of each two bytes, a signed number, in 16 bits shifted to the left by kShift.
template <int kShift>
inline Halves even_bytes_shifted(Halves v) {
  using Signed = int16_t __attribute__((vector_size(sizeof(Halves))));
  return (Halves)((Signed)(v << 8) >> (8 - kShift));
}
template <int kShift>
inline Halves odd_bytes_shifted(Halves v) {
  using Signed = int16_t __attribute__((vector_size(sizeof(Halves))));
  return (Halves)((Signed)v >> (8 - kShift));
}

/// Whether any bit is set.
inline bool any(Halves value) {
  uint64_t words[2];
  __builtin_memcpy(words, &value, sizeof(words));
  return (words[0] | words[1]) != 0;
}
/// max(a - b, 0).
inline Halves subtract_saturated(Halves a, Halves b) {
  return a > b ? a - b : Halves{};
}
/// Both vectors to bytes (they hold no more), in the order in which low_bytes and high_bytes take them apart
/// again (into the upper half of each 16-bit lane).
inline Bytes pack(Halves a, Halves b) {
  return __builtin_shufflevector((Bytes)a, (Bytes)b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                 30);
}
/// The high bytes, of which the highest bit is wanted.
inline Bytes pack_signs(Halves a, Halves b) {
  return pack(a >> 8, b >> 8);
}
inline Halves low_bytes(Bytes v) {
  return (Halves)__builtin_shufflevector(Bytes{}, v, 0, 16, 0, 17, 0, 18, 0, 19, 0, 20, 0, 21, 0, 22, 0, 23);
}
inline Halves high_bytes(Bytes v) {
  return (Halves)__builtin_shufflevector(Bytes{}, v, 0, 24, 0, 25, 0, 26, 0, 27, 0, 28, 0, 29, 0, 30, 0, 31);
}
/// The even and the odd 16-bit lanes (below 2^15), shifted to the left by up to 14 in 32-bit lanes.
template <int kShift>
inline I32 even_shifted(Halves v) {
  return ((I32)v & 0xffff) << kShift;
}
template <int kShift>
inline I32 odd_shifted(Halves v) {
  return ((I32)v >> 16) << kShift;
}
/// What pack made, in the order of the elements.
inline Bytes in_order(Bytes packed) {
  return packed;
}
/// A table of 16 bytes in every 128-bit lane; and table[index] for every byte.
inline Bytes repeat16(const uint8_t* table) {
  Bytes result;
  __builtin_memcpy(&result, table, 16);
  return result;
}
inline Bytes lookup(Bytes table, Bytes index) {
  Bytes result{};
  for (int i = 0; i < 4 * kLanes; ++i) result[i] = table[index[i]];
  return result;
}

/// kLanes bytes as signed numbers.
inline I32 load_signed_bytes(const void* from) {
  int8_t bytes[kLanes];
  __builtin_memcpy(bytes, from, kLanes);
  I32 result;
  for (int i = 0; i < kLanes; ++i) result[i] = bytes[i];
  return result;
}
inline U32 widen_bits(U16 v) {
  return __builtin_convertvector(v, U32);
}
inline U16 widen_bits(U8 v) {
  return __builtin_convertvector(v, U16);
}
/// Lanes hold 0..65535, or 0..255.
inline U16 low_halves(I32 v) {
  return __builtin_convertvector((U32)v, U16);
}
inline U8 low_bytes_of(I32 v) {
  return __builtin_convertvector((U32)v, U8);
}
/// Four vectors of codes without signs (lanes hold 0..127) and the values that have the signs, as bytes one
/// after another.
inline void save_codes(const I32 (&codes)[4], const F32 (&signs)[4], std::byte* into) {
  for (int i = 0; i < 4; ++i) {
    const U8 bytes = low_bytes_of(codes[i] | (((I32)signs[i] >> 24) & 0x80));
    __builtin_memcpy(into + i * kLanes, &bytes, sizeof(bytes));
  }
}

/// Past the cache on other processors.
template <class V>
inline void stream(void* into, V value) {
  __builtin_memcpy(into, &value, sizeof(V));
}
inline void end_of_stream() {}

}  // namespace octet::OCTET_ISA::lanes

#include "octet/backend/cpu/lanes_products-inl.h"
