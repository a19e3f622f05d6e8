// SPDX-License-Identifier: Apache-2.0
/// AVX-512 with BF16 and VBMI: the vectors of simd_avx512.h, and the dot product of pairs of bfloat16.
#pragma once

#include "octet/backend/cpu/simd_avx512.h"

namespace octet::OCTET_ISA {

inline void store_cells(std::byte* into, I32 v) {
  store_lanes(into, v);
}
/// The pair of bfloat16 at `from` in every lane.
inline I32 broadcast_pair(const std::byte* from) {
  return set1(*reinterpret_cast<const int32_t*>(from));
}

/// In each 16 bytes (four rows of four columns), the first two columns of the rows before the last two.
inline I32 pairs_of_four_rows(I32 v) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order));
}
/// table[b & 127] of every byte b.
inline I32 look_up_128(const uint8_t* table, I32 v) {
  return _mm512_permutex2var_epi8(load_lanes(table), v, load_lanes(table + 64));
}
/// bytes | (signs & 0x80).
inline I32 with_sign_of(I32 bytes, I32 signs) {
  return _mm512_ternarylogic_epi32(bytes, signs, set1(static_cast<int32_t>(0x80808080U)), 0xf8);
}
/// Of each 16 bytes the first (last) eight, those of `low` and `high` in turn.
inline I32 interleave_low_bytes(I32 low, I32 high) {
  return _mm512_unpacklo_epi8(low, high);
}
inline I32 interleave_high_bytes(I32 low, I32 high) {
  return _mm512_unpackhi_epi8(low, high);
}
inline void store_high_halves(uint16_t* into, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(into),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(as_int(v), 16)));
}

/// acc + a.low * b.low + a.high * b.high in every lane of two bfloat16. Subnormal operands and results count
/// as zero.
inline F32 dot_bf16(F32 acc, I32 a, I32 b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

}  // namespace octet::OCTET_ISA
