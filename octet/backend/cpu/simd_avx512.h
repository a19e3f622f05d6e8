// SPDX-License-Identifier: Apache-2.0
/// Vectors of 16 lanes with AVX-512 F, BW, VL and DQ. See simd_portable.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace octet::OCTET_ISA {

inline constexpr int kLanes = 16;
inline constexpr int kTileVectors = 4;
inline constexpr int kTileTokens = 6;

using F32 = __m512;
using I32 = __m512i;

inline F32 load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* into, F32 v) { _mm512_storeu_ps(into, v); }
inline I32 load_lanes(const void* from) { return _mm512_loadu_si512(from); }
inline F32 set1(float x) { return _mm512_set1_ps(x); }
inline I32 set1(int32_t x) { return _mm512_set1_epi32(x); }
inline F32 zero() { return _mm512_setzero_ps(); }

inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }

template <int n>
inline I32 shift_left(I32 v) { return _mm512_slli_epi32(v, n); }
template <int n>
inline I32 shift_right(I32 v) { return _mm512_srai_epi32(v, n); }
inline I32 bit_and(I32 a, I32 b) { return _mm512_and_si512(a, b); }
inline I32 bit_or(I32 a, I32 b) { return _mm512_or_si512(a, b); }
inline F32 as_float(I32 v) { return _mm512_castsi512_ps(v); }
inline I32 as_int(F32 v) { return _mm512_castps_si512(v); }

inline I32 max_u8(I32 a, I32 b) { return _mm512_max_epu8(a, b); }
inline I32 max_s8(I32 a, I32 b) { return _mm512_max_epi8(a, b); }

inline F32 widen_f16_low(I32 v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
inline F32 widen_f16_high(I32 v) { return widen_f16_low(_mm512_srai_epi32(v, 16)); }

inline void prefetch(const void* at) { _mm_prefetch(static_cast<const char*>(at), _MM_HINT_NTA); }

}  // namespace octet::OCTET_ISA
