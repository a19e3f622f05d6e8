// SPDX-License-Identifier: Apache-2.0
/// What lanes-inl.h builds on, for AVX2 with FMA and F16C: the number of lanes and the operations that the compiler's vector types lack.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace octet::OCTET_ISA::lanes {

inline constexpr int kLanes = 8;

using F32 = float __attribute__((vector_size(4 * kLanes)));
using I32 = int32_t __attribute__((vector_size(4 * kLanes)));
using Halves = uint16_t __attribute__((vector_size(4 * kLanes)));  // a full register of 16-bit lanes
using Bytes = uint8_t __attribute__((vector_size(4 * kLanes)));    // a full register of bytes
using U16 = uint16_t __attribute__((vector_size(2 * kLanes)));     // one for each float lane

inline F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline F32 from_half(U16 bits) { return (F32)_mm256_cvtph_ps((__m128i)bits); }
inline U16 to_half(F32 value) { return (U16)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT); }

/// Whether any bit is set.
inline bool any(Halves value) { return _mm256_testz_si256((__m256i)value, (__m256i)value) == 0; }
/// max(a - b, 0).
inline Halves subtract_saturated(Halves a, Halves b) { return (Halves)_mm256_subs_epu16((__m256i)a, (__m256i)b); }
/// Both vectors to bytes, in the order in which low_bytes and high_bytes take them apart again.
inline Bytes pack(Halves a, Halves b) { return (Bytes)_mm256_packus_epi16((__m256i)a, (__m256i)b); }
/// The same with signed saturation, which keeps the highest bit.
inline Bytes pack_signs(Halves a, Halves b) { return (Bytes)_mm256_packs_epi16((__m256i)a, (__m256i)b); }
inline Halves low_bytes(Bytes v) { return (Halves)_mm256_unpacklo_epi8((__m256i)v, _mm256_setzero_si256()); }
inline Halves high_bytes(Bytes v) { return (Halves)_mm256_unpackhi_epi8((__m256i)v, _mm256_setzero_si256()); }
/// What pack made, in the order of the elements.
inline Bytes in_order(Bytes packed) { return (Bytes)_mm256_permute4x64_epi64((__m256i)packed, 0b11011000); }
/// table[index] for every byte, 16 entries.
inline Bytes lookup(const uint8_t* table, Bytes index) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return (Bytes)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), (__m256i)index);
}

}  // namespace octet::OCTET_ISA::lanes
