// SPDX-License-Identifier: Apache-2.0
/// What lanes-inl.h builds on, for AVX2 with FMA and F16C: the number of lanes and the operations that the
/// compiler's vector types lack.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA::lanes {

inline constexpr int kLanes = 8;

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
  return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
/// sums[i] += the vector at `at` * factors[i]. For three in the registers where the sums are: twelve sums,
/// three factors and this vector are all there are.
template <int n>
[[gnu::always_inline]] inline void add_products(const float* at, const F32* factors, F32* sums) {
  F32 factor;
  if constexpr (n == 3) {
    asm("vmovups %[at], %[factor]\n\t"
        "vfmadd231ps %[factor], %[a], %[first]\n\t"
        "vfmadd231ps %[factor], %[b], %[second]\n\t"
        "vfmadd231ps %[factor], %[c], %[third]"
        : [first] "+x"(sums[0]), [second] "+x"(sums[1]), [third] "+x"(sums[2]), [factor] "=&x"(factor)
        : [a] "x"(factors[0]), [b] "x"(factors[1]), [c] "x"(factors[2]),
          [at] "m"(*reinterpret_cast<const float(*)[kLanes]>(at)));
  } else {
    __builtin_memcpy(&factor, at, sizeof(factor));
    asm("" : "+x"(factor));  // loaded once: compilers else load it again for each
    for (int i = 0; i < n; ++i) sums[i] = fma(factor, factors[i], sums[i]);
  }
}
/// sums[i] += *at * factors[i]; like add_products.
template <int n>
[[gnu::always_inline]] inline void add_scaled(const float* at, const F32* factors, F32* sums) {
  F32 factor;
  if constexpr (n == 3) {
    asm("vbroadcastss %[at], %[factor]\n\t"
        "vfmadd231ps %[factor], %[a], %[first]\n\t"
        "vfmadd231ps %[factor], %[b], %[second]\n\t"
        "vfmadd231ps %[factor], %[c], %[third]"
        : [first] "+x"(sums[0]), [second] "+x"(sums[1]), [third] "+x"(sums[2]), [factor] "=&x"(factor)
        : [a] "x"(factors[0]), [b] "x"(factors[1]), [c] "x"(factors[2]), [at] "m"(*at));
  } else if constexpr (n == 2) {
    asm("vbroadcastss %[at], %[factor]\n\t"
        "vfmadd231ps %[factor], %[a], %[first]\n\t"
        "vfmadd231ps %[factor], %[b], %[second]"
        : [first] "+x"(sums[0]), [second] "+x"(sums[1]), [factor] "=&x"(factor)
        : [a] "x"(factors[0]), [b] "x"(factors[1]), [at] "m"(*at));
  } else {
    factor = (F32)_mm256_broadcast_ss(at);
    for (int i = 0; i < n; ++i) sums[i] = fma(factor, factors[i], sums[i]);
  }
}
/// What is at `from`: loaded where this stands, as a register that holds it for long is one that a sum lacks,
/// and one load for each use is more than there is time for beside those of what is multiplied.
[[gnu::always_inline]] inline I32 loaded_here(const int32_t (&from)[kLanes]) {
  I32 value;
  asm volatile("vmovdqu %[from], %[value]" : [value] "=x"(value) : [from] "m"(from));
  return value;
}
inline F32 from_half(U16 bits) {
  return (F32)_mm256_cvtph_ps((__m128i)bits);
}
inline U16 to_half(F32 value) {
  return (U16)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT);
}

/// The lower and the upper lanes.
inline F64 low_doubles(F32 v) {
  return (F64)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
}
inline F64 high_doubles(F32 v) {
  return (F64)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
}

/// Sums that are folded by one addition: each step makes one vector of two, with one move between lanes.
inline F32 fold_pairs(F32 a, F32 b) {  // of a and b in turn
  const __m256 crossed = _mm256_blend_ps((__m256)b, (__m256)a, 0b10101010);
  return (F32)_mm256_blend_ps((__m256)a, (__m256)b, 0b10101010) + (F32)_mm256_permute_ps(crossed, 0b10110001);
}
inline F32 fold_fours(F32 low, F32 high) {
  return (F32)_mm256_blend_ps((__m256)low, (__m256)high, 0b11001100) +
         (F32)_mm256_shuffle_ps((__m256)low, (__m256)high, 0b01001110);
}
/// Lane i of the result is the sum of the lanes of v[i], always added in the same order.
inline F32 sum_each(const F32* v) {
  const auto halves = [](F32 a, F32 b) {  // of a before those of b
    return (F32)_mm256_blend_ps((__m256)a, (__m256)b, 0b11110000) +
           (F32)_mm256_permute2f128_ps((__m256)a, (__m256)b, 0x21);
  };
  return fold_fours(fold_pairs(halves(v[0], v[4]), halves(v[1], v[5])),
                    fold_pairs(halves(v[2], v[6]), halves(v[3], v[7])));
}
/// The same, bit for bit, of vectors that follow each other in memory: so the upper half of one and the lower
/// half of the next are one load.
inline F32 sum_each_stored(const float* at) {
  const auto halves = [at](int i) {
    const float* both = at + i * kLanes;
    return (F32)_mm256_blend_ps(_mm256_loadu_ps(both), _mm256_loadu_ps(both + kLanes), 0b11110000) +
           (F32)_mm256_loadu_ps(both + kLanes / 2);
  };
  const F32 sums = fold_fours(fold_pairs(halves(0), halves(2)), fold_pairs(halves(4), halves(6)));
  return (F32)_mm256_permutevar8x32_ps((__m256)sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/// Lane i of the result is lane i + by of v or i - by (halves of halves change places); by is a power of two.
inline F32 moved_down(F32 v, int by) {
  return by == 4   ? (F32)_mm256_permute2f128_ps((__m256)v, (__m256)v, 1)
         : by == 2 ? (F32)_mm256_permute_ps((__m256)v, 0b01001110)
                   : (F32)_mm256_permute_ps((__m256)v, 0b10110001);
}
/// The first or the second of each two bytes, a signed number, in 16 bits shifted to the left by kShift.
template <int kShift>
inline Halves even_bytes_shifted(Halves v) {
  return (Halves)_mm256_maddubs_epi16(_mm256_set1_epi16(1 << kShift), (__m256i)v);
}
template <int kShift>
inline Halves odd_bytes_shifted(Halves v) {
  return (Halves)_mm256_srai_epi16((__m256i)v, 8 - kShift);
}

/// Whether any bit is set.
inline bool any(Halves value) {
  return _mm256_testz_si256((__m256i)value, (__m256i)value) == 0;
}
/// max(a - b, 0).
inline Halves subtract_saturated(Halves a, Halves b) {
  return (Halves)_mm256_subs_epu16((__m256i)a, (__m256i)b);
}
/// Both vectors to bytes, in the order in which low_bytes and high_bytes take them apart again (into the
/// upper half of each 16-bit lane).
inline Bytes pack(Halves a, Halves b) {
  return (Bytes)_mm256_packus_epi16((__m256i)a, (__m256i)b);
}
/// The same with signed saturation, which keeps the highest bit.
inline Bytes pack_signs(Halves a, Halves b) {
  return (Bytes)_mm256_packs_epi16((__m256i)a, (__m256i)b);
}
inline Halves low_bytes(Bytes v) {
  return (Halves)_mm256_unpacklo_epi8(_mm256_setzero_si256(), (__m256i)v);
}
inline Halves high_bytes(Bytes v) {
  return (Halves)_mm256_unpackhi_epi8(_mm256_setzero_si256(), (__m256i)v);
}
/// The even and the odd 16-bit lanes (below 2^15), shifted to the left by up to 14 in 32-bit lanes:
/// multiplied, as the ports that shift have enough to do.
template <int kShift>
inline I32 even_shifted(Halves v) {
  return (I32)_mm256_madd_epi16((__m256i)v, _mm256_set1_epi32(1 << kShift));
}
template <int kShift>
inline I32 odd_shifted(Halves v) {
  return (I32)_mm256_madd_epi16((__m256i)v, _mm256_set1_epi32(1 << (kShift + 16)));
}
/// What pack made, in the order of the elements.
inline Bytes in_order(Bytes packed) {
  return (Bytes)_mm256_permute4x64_epi64((__m256i)packed, 0b11011000);
}
/// A table of 16 bytes in every 128-bit lane; and table[index] for every byte.
inline Bytes repeat16(const uint8_t* table) {
  return (Bytes)_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
inline Bytes lookup(Bytes table, Bytes index) {
  return (Bytes)_mm256_shuffle_epi8((__m256i)table, (__m256i)index);
}

/// kLanes bytes as signed numbers.
inline I32 load_signed_bytes(const void* from) {
  return (I32)_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from)));
}
inline U32 widen_bits(U16 v) {
  return (U32)_mm256_cvtepu16_epi32((__m128i)v);
}
inline U16 widen_bits(U8 v) {
  return (U16)_mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)v));
}
/// Lanes hold 0..65535, or 0..255.
inline U16 low_halves(I32 v) {
  const __m256i packed = _mm256_packus_epi32((__m256i)v, (__m256i)v);
  return (U16)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b1000));
}
inline U8 low_bytes_of(I32 v) {
  const __m128i halves = (__m128i)low_halves(v);
  return (U8)_mm_cvtsi128_si64(_mm_packus_epi16(halves, halves));
}
/// Four vectors of codes without signs (lanes hold 0..127) and the values that have the signs, as bytes one
/// after another.
inline void save_codes(const I32 (&codes)[4], const F32 (&signs)[4], std::byte* into) {
  const auto halves = [](I32 a, I32 b) { return _mm256_packus_epi32((__m256i)a, (__m256i)b); };
  const auto sign_halves = [](F32 a, F32 b) { return _mm256_packs_epi32((__m256i)a, (__m256i)b); };
  const __m256i sizes = _mm256_packus_epi16(halves(codes[0], codes[1]), halves(codes[2], codes[3]));
  const __m256i highest =
      _mm256_packs_epi16(sign_halves(signs[0], signs[1]), sign_halves(signs[2], signs[3]));
  const __m256i all =
      _mm256_or_si256(sizes, _mm256_and_si256(highest, _mm256_set1_epi8(static_cast<char>(0x80))));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(into), _mm256_permutevar8x32_epi32(all, order));
}

/// 32 aligned bytes past the cache, and what makes those before it visible to other threads.
template <class V>
inline void stream(void* into, V value) {
  _mm256_stream_si256(static_cast<__m256i*>(into), (__m256i)value);
}
inline void end_of_stream() {
  _mm_sfence();
}

}  // namespace octet::OCTET_ISA::lanes
