// SPDX-License-Identifier: Apache-2.0
/// Vectors of 8 lanes with AVX2, FMA and F16C. See simd_portable.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA {

inline constexpr int kLanes = 8;
inline constexpr int kTileVectors = 2;
inline constexpr int kTileTokens = 6;
inline constexpr int kFusedTokens = 6;
inline constexpr int kFusedLimit = 20;
constexpr int fused_vectors(int tokens) {
  return tokens == 1 ? 8 : tokens <= 3 ? 4 : 2;
}
using F32 = __m256;
using I32 = __m256i;

inline F32 load(const float* from) {
  return _mm256_loadu_ps(from);
}
inline void store(float* into, F32 v) {
  _mm256_storeu_ps(into, v);
}
inline I32 load_lanes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
inline void store_lanes(void* into, I32 v) {
  _mm256_storeu_si256(static_cast<__m256i*>(into), v);
}
inline void stream_lanes(void* into, I32 v) {
  _mm256_stream_si256(static_cast<__m256i*>(into), v);
}
inline void end_of_stream() {
  _mm_sfence();
}
inline void store_cells(std::byte* into, F32 v) {
  store(reinterpret_cast<float*>(into), v);
}
inline F32 set1(float x) {
  return _mm256_set1_ps(x);
}
inline I32 set1(int32_t x) {
  return _mm256_set1_epi32(x);
}
inline F32 broadcast_f32(const std::byte* from) {
  return set1(*reinterpret_cast<const float*>(from));
}
inline F32 zero() {
  return _mm256_setzero_ps();
}

inline F32 add(F32 a, F32 b) {
  return _mm256_add_ps(a, b);
}
inline F32 sub(F32 a, F32 b) {
  return _mm256_sub_ps(a, b);
}
inline F32 mul(F32 a, F32 b) {
  return _mm256_mul_ps(a, b);
}
inline F32 div(F32 a, F32 b) {
  return _mm256_div_ps(a, b);
}
inline F32 fma(F32 a, F32 b, F32 c) {
  return _mm256_fmadd_ps(a, b, c);
}
/// first += a * c, second += b * c, c the float at x + row + kOffset: in the registers where the sums are,
/// and with this very address. Sixteen registers of either kind do not allow for what compilers make of it.
template <int kOffset>
[[gnu::always_inline]] inline void add_products(F32 a, F32 b, const std::byte* x, int64_t row, F32& first,
                                                F32& second) {
  F32 cell;
  asm("vbroadcastss %c[offset](%[x],%[row]), %[cell]\n\t"
      "vfmadd231ps %[cell], %[a], %[first]\n\t"
      "vfmadd231ps %[cell], %[b], %[second]"
      : [first] "+x"(first), [second] "+x"(second), [cell] "=&x"(cell)
      : [a] "x"(a), [b] "x"(b), [x] "r"(x), [row] "r"(row), [offset] "i"(kOffset),
        "m"(*reinterpret_cast<const float(*)[1 << 24]>(x)));
}
inline F32 max(F32 a, F32 b) {
  return _mm256_max_ps(a, b);
}
inline F32 min(F32 a, F32 b) {
  return _mm256_min_ps(a, b);
}

template <int n>
inline I32 shift_left(I32 v) {
  return _mm256_slli_epi32(v, n);
}
template <int n>
inline I32 shift_right(I32 v) {
  return _mm256_srai_epi32(v, n);
}
template <int n>
inline I32 shift_right_halves(I32 v) {
  return _mm256_srai_epi16(v, n);
}
template <int n>
inline I32 even_bytes_times(I32 v) {
  return _mm256_maddubs_epi16(_mm256_set1_epi16(n), v);
}
template <int n>
inline I32 even_sizes_times(I32 v) {
  return _mm256_maddubs_epi16(v, _mm256_set1_epi16(n));
}
template <int n>
inline I32 odd_sizes_times(I32 v) {
  return _mm256_maddubs_epi16(v, _mm256_set1_epi16(n << 8));
}
template <int n>
inline I32 shift_left_halves(I32 v) {
  return _mm256_slli_epi16(v, n);
}
inline I32 bit_and(I32 a, I32 b) {
  return _mm256_and_si256(a, b);
}
inline I32 bit_or(I32 a, I32 b) {
  return _mm256_or_si256(a, b);
}
inline I32 with_bits(I32 a, I32 b, I32 mask) {
  return bit_or(a, bit_and(b, mask));
}
inline F32 as_float(I32 v) {
  return _mm256_castsi256_ps(v);
}
inline I32 as_int(F32 v) {
  return _mm256_castps_si256(v);
}

inline F32 round_bf16(F32 v) {
  const I32 bits = as_int(v);
  const I32 odd = bit_and(_mm256_srli_epi32(bits, 16), set1(1));
  const I32 rounded = _mm256_add_epi32(_mm256_add_epi32(bits, set1(0x7fff)), odd);
  const I32 quiet = bit_or(bits, set1(0x00400000));
  const F32 result = _mm256_blendv_ps(as_float(rounded), as_float(quiet), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return as_float(bit_and(as_int(result), set1(static_cast<int32_t>(0xffff0000U))));
}

inline I32 max_u8(I32 a, I32 b) {
  return _mm256_max_epu8(a, b);
}
inline I32 min_u8(I32 a, I32 b) {
  return _mm256_min_epu8(a, b);
}
inline I32 add_bytes(I32 a, I32 b) {
  return _mm256_add_epi8(a, b);
}
inline I32 double_bytes(I32 v) {
  return add_bytes(v, v);
}
inline I32 look_up_16(const uint8_t* table, I32 v) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), v);
}

inline F32 widen_f16_low(I32 v) {
  const I32 halves = bit_and(v, set1(0xffff));
  const I32 packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0b1000);
  return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}
inline F32 widen_f16_high(I32 v) {
  return widen_f16_low(_mm256_srli_epi32(v, 16));
}

[[gnu::always_inline]] inline void prefetch(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_NTA);
}

[[gnu::always_inline]] inline void prefetch_near(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T1);
}

}  // namespace octet::OCTET_ISA
