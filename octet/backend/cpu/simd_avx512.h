// SPDX-License-Identifier: Apache-2.0
/// Vectors of 16 lanes with AVX-512 F, BW, VL and DQ. See simd_portable.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA {

inline constexpr int kLanes = 16;
inline constexpr int kTileVectors = 4;
inline constexpr int kTileTokens = 6;
inline constexpr int kFusedTokens = 10;
inline constexpr int kFusedLimit = 20;
constexpr int fused_vectors(int tokens) {
  return tokens <= 3 ? 4 : 2;
}
using F32 = __m512;
using I32 = __m512i;

inline F32 load(const float* from) {
  return _mm512_loadu_ps(from);
}
inline void store(float* into, F32 v) {
  _mm512_storeu_ps(into, v);
}
inline I32 load_lanes(const void* from) {
  return _mm512_loadu_si512(from);
}
inline void store_lanes(void* into, I32 v) {
  _mm512_storeu_si512(into, v);
}
inline void stream_lanes(void* into, I32 v) {
  _mm512_stream_si512(static_cast<__m512i*>(into), v);
}
inline void end_of_stream() {
  _mm_sfence();
}
inline void store_cells(std::byte* into, F32 v) {
  store(reinterpret_cast<float*>(into), v);
}
inline F32 set1(float x) {
  return _mm512_set1_ps(x);
}
inline I32 set1(int32_t x) {
  return _mm512_set1_epi32(x);
}
inline F32 broadcast_f32(const std::byte* from) {
  return set1(*reinterpret_cast<const float*>(from));
}
inline F32 zero() {
  return _mm512_setzero_ps();
}

inline F32 add(F32 a, F32 b) {
  return _mm512_add_ps(a, b);
}
inline F32 sub(F32 a, F32 b) {
  return _mm512_sub_ps(a, b);
}
inline F32 mul(F32 a, F32 b) {
  return _mm512_mul_ps(a, b);
}
inline F32 div(F32 a, F32 b) {
  return _mm512_div_ps(a, b);
}
inline F32 fma(F32 a, F32 b, F32 c) {
  return _mm512_fmadd_ps(a, b, c);
}
template <int kOffset>
inline void add_products(F32 a, F32 b, const std::byte* x, int64_t row, F32& first, F32& second) {
  const F32 cell = broadcast_f32(x + row + kOffset);
  first = fma(a, cell, first);
  second = fma(b, cell, second);
}
inline F32 max(F32 a, F32 b) {
  return _mm512_max_ps(a, b);
}
inline F32 min(F32 a, F32 b) {
  return _mm512_min_ps(a, b);
}

template <int n>
inline I32 shift_left(I32 v) {
  return _mm512_slli_epi32(v, n);
}
template <int n>
inline I32 shift_right(I32 v) {
  return _mm512_srai_epi32(v, n);
}
template <int n>
inline I32 shift_right_halves(I32 v) {
  return _mm512_srai_epi16(v, n);
}
template <int n>
inline I32 even_bytes_times(I32 v) {
  return _mm512_maddubs_epi16(_mm512_set1_epi16(n), v);
}
template <int n>
inline I32 even_sizes_times(I32 v) {
  return _mm512_maddubs_epi16(v, _mm512_set1_epi16(n));
}
template <int n>
inline I32 odd_sizes_times(I32 v) {
  return _mm512_maddubs_epi16(v, _mm512_set1_epi16(n << 8));
}
template <int n>
inline I32 shift_left_halves(I32 v) {
  return _mm512_slli_epi16(v, n);
}
inline I32 bit_and(I32 a, I32 b) {
  return _mm512_and_si512(a, b);
}
inline I32 bit_or(I32 a, I32 b) {
  return _mm512_or_si512(a, b);
}
inline I32 with_bits(I32 a, I32 b, I32 mask) {
  return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}
inline F32 as_float(I32 v) {
  return _mm512_castsi512_ps(v);
}
inline I32 as_int(F32 v) {
  return _mm512_castps_si512(v);
}

inline F32 round_bf16(F32 v) {
  const I32 bits = as_int(v);
  const I32 odd = bit_and(_mm512_srli_epi32(bits, 16), set1(1));
  const I32 rounded = _mm512_add_epi32(_mm512_add_epi32(bits, set1(0x7fff)), odd);
  const I32 quiet = bit_or(bits, set1(0x00400000));
  const I32 result = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
  return as_float(bit_and(result, set1(static_cast<int32_t>(0xffff0000U))));
}

inline I32 max_u8(I32 a, I32 b) {
  return _mm512_max_epu8(a, b);
}
inline I32 min_u8(I32 a, I32 b) {
  return _mm512_min_epu8(a, b);
}
inline I32 add_bytes(I32 a, I32 b) {
  return _mm512_add_epi8(a, b);
}
inline I32 double_bytes(I32 v) {
  return add_bytes(v, v);
}
inline I32 look_up_16(const uint8_t* table, I32 v) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), v);
}

inline F32 widen_f16_low(I32 v) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}
inline F32 widen_f16_high(I32 v) {
  return widen_f16_low(_mm512_srai_epi32(v, 16));
}

[[gnu::always_inline]] inline void prefetch(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_NTA);
}

[[gnu::always_inline]] inline void prefetch_near(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T0);
}

}  // namespace octet::OCTET_ISA
