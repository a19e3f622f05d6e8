// SPDX-License-Identifier: Apache-2.0
/// What lanes-inl.h builds on, for AVX-512 (F, BW, VL, DQ): the number of lanes and the operations that the
/// compiler's vector types lack.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA::lanes {

inline constexpr int kLanes = 16;

using F32 = float __attribute__((vector_size(4 * kLanes)));
using I32 = int32_t __attribute__((vector_size(4 * kLanes)));
using F64 = double __attribute__((vector_size(4 * kLanes)));  // half as many lanes
using U32 = uint32_t __attribute__((vector_size(4 * kLanes)));
using U8 = uint8_t __attribute__((vector_size(kLanes)));
using Halves = uint16_t __attribute__((vector_size(4 * kLanes)));  // a full register of 16-bit lanes
using Bytes = uint8_t __attribute__((vector_size(4 * kLanes)));    // a full register of bytes
using U16 = uint16_t __attribute__((vector_size(2 * kLanes)));     // one for each float lane

/// Whether fma rounds the product before the sum.
inline constexpr bool kProductRounded = false;
inline F32 fma(F32 a, F32 b, F32 c) {
  return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline F32 from_half(U16 bits) {
  return (F32)_mm512_cvtph_ps((__m256i)bits);
}
inline U16 to_half(F32 value) {
  return (U16)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/// The lower and the upper lanes.
inline F64 low_doubles(F32 v) {
  return (F64)_mm512_cvtps_pd((__m256)__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
}
inline F64 high_doubles(F32 v) {
  return (F64)_mm512_cvtps_pd((__m256)__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}

/// Lane i of the result is the sum of the lanes of v[i], always added in the same order.
inline F32 sum_each(const F32* v) {
  const auto pairs = [](F32 a, F32 b) {
    return (F32)_mm512_shuffle_ps((__m512)a, (__m512)b, 0x88) +
           (F32)_mm512_shuffle_ps((__m512)a, (__m512)b, 0xdd);
  };
  const auto quarters = [](F32 a, F32 b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  F32 fours[4];
  for (int i = 0; i < 4; ++i)
    fours[i] = pairs(pairs(v[4 * i], v[4 * i + 1]), pairs(v[4 * i + 2], v[4 * i + 3]));
  return quarters(quarters(fours[0], fours[1]), quarters(fours[2], fours[3]));
}

/// Lane i of the result is lane i + by of v or i - by (halves of halves change places); by is a power of two.
inline F32 moved_down(F32 v, int by) {
  return by == 8   ? __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
         : by == 4 ? __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
         : by == 2 ? __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
                   : __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
}
/// The first or the second of each two bytes, a signed number, in 16 bits shifted to the left by kShift.
template <int kShift>
inline Halves even_bytes_shifted(Halves v) {
  return (Halves)_mm512_maddubs_epi16(_mm512_set1_epi16(1 << kShift), (__m512i)v);
}
template <int kShift>
inline Halves odd_bytes_shifted(Halves v) {
  return (Halves)_mm512_srai_epi16((__m512i)v, 8 - kShift);
}

/// Whether any bit is set.
inline bool any(Halves value) {
  return _mm512_test_epi32_mask((__m512i)value, (__m512i)value) != 0;
}
/// max(a - b, 0).
inline Halves subtract_saturated(Halves a, Halves b) {
  return (Halves)_mm512_subs_epu16((__m512i)a, (__m512i)b);
}
/// Both vectors to bytes, in the order in which low_bytes and high_bytes take them apart again (into the
/// upper half of each 16-bit lane).
inline Bytes pack(Halves a, Halves b) {
  return (Bytes)_mm512_packus_epi16((__m512i)a, (__m512i)b);
}
/// The same with signed saturation, which keeps the highest bit.
inline Bytes pack_signs(Halves a, Halves b) {
  return (Bytes)_mm512_packs_epi16((__m512i)a, (__m512i)b);
}
inline Halves low_bytes(Bytes v) {
  return (Halves)_mm512_unpacklo_epi8(_mm512_setzero_si512(), (__m512i)v);
}
inline Halves high_bytes(Bytes v) {
  return (Halves)_mm512_unpackhi_epi8(_mm512_setzero_si512(), (__m512i)v);
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
  return (Bytes)_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), (__m512i)packed);
}
/// A table of 16 bytes in every 128-bit lane; and table[index] for every byte.
inline Bytes repeat16(const uint8_t* table) {
  return (Bytes)_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
inline Bytes lookup(Bytes table, Bytes index) {
  return (Bytes)_mm512_shuffle_epi8((__m512i)table, (__m512i)index);
}

inline U32 widen_bits(U16 v) {
  return (U32)_mm512_cvtepu16_epi32((__m256i)v);
}
inline U16 widen_bits(U8 v) {
  return (U16)_mm256_cvtepu8_epi16((__m128i)v);
}
/// kLanes bytes as signed numbers.
inline I32 load_signed_bytes(const void* from) {
  U8 bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return (I32)widen_bits(widen_bits(bytes)) << 24 >> 24;
}
/// Lanes hold 0..65535, or 0..255.
inline U16 low_halves(I32 v) {
  return (U16)_mm512_cvtepi32_epi16((__m512i)v);
}
inline U8 low_bytes_of(I32 v) {
  return (U8)_mm512_cvtepi32_epi8((__m512i)v);
}
/// Four vectors of codes without signs (lanes hold 0..127) and the values that have the signs, as bytes one
/// after another.
inline void save_codes(const I32 (&codes)[4], const F32 (&signs)[4], std::byte* into) {
  for (int i = 0; i < 4; ++i) {
    const U8 bytes = low_bytes_of(codes[i] | (((I32)signs[i] >> 24) & 0x80));
    __builtin_memcpy(into + i * kLanes, &bytes, sizeof(bytes));
  }
}

/// 32 or 64 aligned bytes past the cache, and what makes those before it visible to other threads.
template <class V>
inline void stream(void* into, V value) {
  if constexpr (sizeof(V) == 64) {
    _mm512_stream_si512(static_cast<__m512i*>(into), (__m512i)value);
  } else {
    _mm256_stream_si256(static_cast<__m256i*>(into), (__m256i)value);
  }
}
inline void end_of_stream() {
  _mm_sfence();
}

}  // namespace octet::OCTET_ISA::lanes

#include "octet/backend/cpu/lanes_products-inl.h"
