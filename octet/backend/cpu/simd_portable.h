// SPDX-License-Identifier: Apache-2.0
/// Vectors of 4 lanes in the compiler's own vector types: what the kernels (*-inl.h) are written over, for
/// any machine. Every simd_<isa>.h offers the same types, constants and functions; this one documents them.
/// Included only by kernels_<isa>.cpp, so that everything lies in a namespace of the instruction set's own
/// (OCTET_ISA, given by CMake) and no function compiled with its flags is ever linked into code for another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace octet::OCTET_ISA {

inline constexpr int kLanes = 4;
/// Accumulators that fit into the registers beside the operands: rows in vectors x tokens of the multiply's
/// tiles.
inline constexpr int kTileVectors = 2;
inline constexpr int kTileTokens = 4;
/// How many tokens share weights that are widened in registers as they are used, and over how many vectors of
/// rows; and up to how many that is done in several passes: beyond, they are widened once, into memory.
inline constexpr int kFusedTokens = 4;
inline constexpr int kFusedLimit = 4;
constexpr int fused_vectors(int tokens) {
  return tokens == 1 ? 8 : tokens == 2 ? 4 : 2;
}

using F32 [[gnu::vector_size(16)]] = float;
using I32 [[gnu::vector_size(16)]] = int32_t;
using S16 [[gnu::vector_size(16)]] = int16_t;
using U8 [[gnu::vector_size(16)]] = uint8_t;

inline F32 load(const float* from) {
  F32 v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* into, F32 v) {
  std::memcpy(into, &v, sizeof v);
}
/// 4 * kLanes bytes as 32-bit lanes.
inline I32 load_lanes(const void* from) {
  I32 v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store_lanes(void* into, I32 v) {
  std::memcpy(into, &v, sizeof v);
}
/// A store that need not pass through the caches, to an aligned place; and what makes such stores seen by
/// others.
inline void stream_lanes(void* into, I32 v) {
  store_lanes(into, v);
}
inline void end_of_stream() {}
/// A vector of operands into memory, whatever they are.
inline void store_cells(std::byte* into, F32 v) {
  std::memcpy(into, &v, sizeof v);
}
inline F32 set1(float x) {
  return F32{x, x, x, x};
}
inline I32 set1(int32_t x) {
  return I32{x, x, x, x};
}
/// The float32 at `from` in every lane.
inline F32 broadcast_f32(const std::byte* from) {
  float x = 0;
  std::memcpy(&x, from, sizeof x);
  return set1(x);
}
inline F32 zero() {
  return F32{};
}

inline F32 add(F32 a, F32 b) {
  return a + b;
}
inline F32 sub(F32 a, F32 b) {
  return a - b;
}
inline F32 mul(F32 a, F32 b) {
  return a * b;
}
inline F32 div(F32 a, F32 b) {
  return a / b;
}
/// a * b + c: rounded once where the machine has it in hardware; here twice, since a call of fma() per lane
/// would cost more than the whole multiply.
inline F32 fma(F32 a, F32 b, F32 c) {
  return a * b + c;
}
/// first += a * c, second += b * c, c the float at x + row + kOffset.
template <int kOffset>
inline void add_products(F32 a, F32 b, const std::byte* x, int64_t row, F32& first, F32& second) {
  const F32 cell = broadcast_f32(x + row + kOffset);
  first = fma(a, cell, first);
  second = fma(b, cell, second);
}
/// The second operand where either is NaN, as x86 has it.
inline F32 max(F32 a, F32 b) {
  return a > b ? a : b;
}
inline F32 min(F32 a, F32 b) {
  return a < b ? a : b;
}

template <int n>
inline I32 shift_left(I32 v) {
  return v << n;
}
/// Fills with the sign.
template <int n>
inline I32 shift_right(I32 v) {
  return v >> n;
}
/// The same in each 16-bit half of the lanes.
template <int n>
inline I32 shift_right_halves(I32 v) {
  return reinterpret_cast<I32>(reinterpret_cast<S16>(v) >> n);
}
/// The low byte of each 16-bit half, as a signed number, times a power of two up to 64.
template <int n>
inline I32 even_bytes_times(I32 v) {
  return reinterpret_cast<I32>(((reinterpret_cast<S16>(v) << 8) >> 8) * static_cast<int16_t>(n));
}
/// Each low (high) byte of the 16-bit halves, as a number without a sign, times a power of two up to 64.
template <int n>
inline I32 even_sizes_times(I32 v) {
  return (v & 0x00ff00ff) * n;
}
template <int n>
inline I32 odd_sizes_times(I32 v) {
  return ((v >> 8) & 0x00ff00ff) * n;
}
template <int n>
inline I32 shift_left_halves(I32 v) {
  return reinterpret_cast<I32>(reinterpret_cast<S16>(v) << n);
}
inline I32 bit_and(I32 a, I32 b) {
  return a & b;
}
inline I32 bit_or(I32 a, I32 b) {
  return a | b;
}
/// a with the bits of b that `mask` has.
inline I32 with_bits(I32 a, I32 b, I32 mask) {
  return a | (b & mask);
}
inline F32 as_float(I32 v) {
  return reinterpret_cast<F32>(v);
}
inline I32 as_int(F32 v) {
  return reinterpret_cast<I32>(v);
}

/// Rounded to bfloat16, to nearest even; NaN stays NaN.
inline F32 round_bf16(F32 v) {
  const I32 bits = as_int(v);
  const I32 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & static_cast<int32_t>(0xffff0000U);
  const I32 quiet = (bits | 0x00400000) & static_cast<int32_t>(0xffff0000U);
  return as_float(v == v ? rounded : quiet);
}

/// The larger of each pair of unsigned bytes.
inline I32 max_u8(I32 a, I32 b) {
  const auto x = reinterpret_cast<U8>(a);
  const auto y = reinterpret_cast<U8>(b);
  return reinterpret_cast<I32>(x > y ? x : y);
}
inline I32 min_u8(I32 a, I32 b) {
  const auto x = reinterpret_cast<U8>(a);
  const auto y = reinterpret_cast<U8>(b);
  return reinterpret_cast<I32>(x < y ? x : y);
}
inline I32 add_bytes(I32 a, I32 b) {
  return reinterpret_cast<I32>(reinterpret_cast<U8>(a) + reinterpret_cast<U8>(b));
}
/// Every byte twice itself, its top bit lost.
inline I32 double_bytes(I32 v) {
  return add_bytes(v, v);
}
/// table[b] of every byte b, below 16.
inline I32 look_up_16(const uint8_t* table, I32 v) {
  auto bytes = reinterpret_cast<U8>(v);
  for (int i = 0; i < 4 * kLanes; ++i) bytes[i] = table[bytes[i]];
  return reinterpret_cast<I32>(bytes);
}

/// The float16 in the low (high) half of every lane, widened.
inline F32 widen_f16_low(I32 v) {
  F32 out;
  for (int i = 0; i < kLanes; ++i) {
    const auto half = static_cast<uint32_t>(v[i]) & 0xffffU;
    const uint32_t magnitude = half & 0x7fffU;
    uint32_t bits = (magnitude << 13) + (112U << 23);
    if (magnitude >= 0x7c00U) bits = (magnitude << 13) | 0x7f800000U;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (magnitude < 0x0400U) value = static_cast<float>(magnitude) * 0x1p-24F;
    out[i] = (half & 0x8000U) != 0 ? -value : value;
  }
  return out;
}
inline F32 widen_f16_high(I32 v) {
  return widen_f16_low(reinterpret_cast<I32>(reinterpret_cast<U8>(v)) >> 16);
}

/// Asks for a line that will be read once, some KiB ahead.
[[gnu::always_inline]] inline void prefetch(const void* at) {
  __builtin_prefetch(at, 0, 0);
}

/// The same for a line that several passes will use soon.
[[gnu::always_inline]] inline void prefetch_near(const void* at) {
  __builtin_prefetch(at, 0, 3);
}

}  // namespace octet::OCTET_ISA
