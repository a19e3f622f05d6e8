// SPDX-License-Identifier: Apache-2.0
/// Vectors of float32, integer and float64 lanes for every operation but the multiply, as the compiler's own
/// vector types: arithmetic, comparison and choice are plain operators; what has none is in lanes_<isa>.h,
/// included before.
///
/// Everything lives in the namespace of one instruction set, so that no function is shared between object
/// files that were compiled for different ones. No standard-library templates in here, for the same reason.
#pragma once

#include <cstddef>
#include <cstdint>

#include "octet/core/dtype.h"

namespace octet::OCTET_ISA::lanes {

template <class V>
inline V load(const void* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}
template <class V>
inline void save(void* into, V value) {
  __builtin_memcpy(into, &value, sizeof(V));
}

inline F32 splat(float value) {
  return value - F32{};
}  // minus: keeps the sign of -0
inline I32 splat(int32_t value) {
  return value + I32{};
}
inline I32 as_int(F32 value) {
  return (I32)value;
}
inline F32 as_float(I32 value) {
  return (F32)value;
}
inline F32 magnitude(F32 value) {
  return as_float(as_int(value) & 0x7fffffff);
}
inline F32 max(F32 a, F32 b) {
  return a > b ? a : b;
}
inline F32 min(F32 a, F32 b) {
  return a < b ? a : b;
}
inline I32 max(I32 a, I32 b) {
  return a > b ? a : b;
}
inline I32 min(I32 a, I32 b) {
  return a < b ? a : b;
}

// ---- widening and rounding, one overload for each element type ----

inline F32 widen(const float* from) {
  return load<F32>(from);
}
inline F32 widen(const bfloat16* from) {
  return as_float((I32)(widen_bits(load<U16>(from)) << 16));
}
inline F32 widen(const float16* from) {
  return from_half(load<U16>(from));
}
inline F32 quiet_nan(F32 sign) {
  return as_float((as_int(sign) & static_cast<int32_t>(0x80000000U)) | 0x7fc00000);
}
inline F32 widen(const float8_e5m2* from) {
  const F32 value = from_half(widen_bits(load<U8>(from)) << 8);
  return value == value ? value : quiet_nan(value);
}
/// Through float16 of a 256th of the value: subnormal codes cost no more than others on any processor.
inline F32 widen(const float8_e4m3* from) {
  const U16 wide = widen_bits(load<U8>(from));
  const F32 value = from_half(((wide & 0x80) << 8) | ((wide & 0x7f) << 7)) * 256.0F;
  const I32 is_nan = (as_int(value) & 0x7fffffff) == 0x43f00000;  // 480, which is no E4M3 value
  return is_nan ? quiet_nan(value) : value;
}

inline void narrow(F32 value, float* into) {
  save(into, value);
}
inline void narrow(F32 value, float16* into) {
  save(into, to_half(value));
}
inline I32 bfloat16_bits(F32 value) {
  const I32 bits = as_int(value);
  const I32 rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (bits & 0x7fffffff) > 0x7f800000 ? (bits | 0x00400000) : rounded;
}
inline void narrow(F32 value, bfloat16* into) {
  save(into, low_halves((I32)((U32)bfloat16_bits(value) >> 16)));
}

/// Rounded once to T and back.
template <class T>
inline F32 round_to(F32 value);
template <>
inline F32 round_to<float>(F32 value) {
  return value;
}
template <>
inline F32 round_to<bfloat16>(F32 value) {
  return as_float(bfloat16_bits(value) & static_cast<int32_t>(0xffff0000U));
}
template <>
inline F32 round_to<float16>(F32 value) {
  return from_half(to_half(value));
}

// ---- parts of a vector: the same arithmetic for the last few elements of a row ----

template <class T>
inline F32 widen_part(const T* from, int64_t count) {
  T part[kLanes] = {};
  __builtin_memcpy(part, from, static_cast<size_t>(count) * sizeof(T));
  return widen(part);
}
template <class T>
inline void narrow_part(F32 value, T* into, int64_t count) {
  T part[kLanes];
  narrow(value, part);
  __builtin_memcpy(into, part, static_cast<size_t>(count) * sizeof(T));
}
/// 0, 1, 2, ...
inline I32 lane_numbers() {
  I32 result{};
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) result[i] = i;
  return result;
}

/// Calls body(first, count) for each vector of [0, n); count is kLanes but for the last.
template <class Body>
[[gnu::always_inline]] inline void for_vectors(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, int64_t{kLanes});
  if (i < n) body(i, n - i);
}
template <class T>
inline F32 widen_some(const T* from, int64_t count) {
  return count == kLanes ? widen(from) : widen_part(from, count);
}
template <class T>
inline void narrow_some(F32 value, T* into, int64_t count) {
  if (count == kLanes) {
    narrow(value, into);
  } else {
    narrow_part(value, into, count);
  }
}

/// The largest lane; lanes are not NaN.
inline float largest(F32 value) {
  F32 most = value;
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) most = max(most, moved_down(most, half));
  return most[0];
}
/// In always the same order.
inline float sum_of_lanes(F32 value) {
  F32 sum = value;
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) sum += moved_down(sum, half);
  return sum[0];
}
inline double sum_of(F64 value) {
  double result = 0;
  for (int i = 0; i < kLanes / 2; ++i) result += value[i];
  return result;
}
inline int64_t sum_of(I32 value) {
  int64_t result = 0;
  for (int i = 0; i < kLanes; ++i) result += value[i];
  return result;
}

/// e^x = fraction * 2^n for |x| < 2^17.
struct PowerOfE {
  F32 fraction;  // within 2 units in the last place
  I32 n;         // in the low bits of a float32 of 1.5 * 2^23
};
inline constexpr float kLowBits = 0x1.8p23F;
inline PowerOfE power_of_e(F32 x) {
  const F32 magic = splat(kLowBits);
  const F32 shifted =
      fma(x, splat(0x1.715476p+0F), magic);  // to nearest: the sum's last bits are the integer
  const F32 n = shifted - magic;
  const F32 r = fma(n, splat(-0x1.7f7d1cp-20F), fma(n, splat(-0x1.62e4p-1F), x));
  F32 p = fma(r, splat(0x1.6850e4p-10F), splat(0x1.123bccp-7F));
  p = fma(p, r, splat(0x1.555b98p-5F));
  p = fma(p, r, splat(0x1.55548ep-3F));
  p = fma(p, r, splat(0x1.fffff8p-2F));
  return {fma(p * r, r, r) + 1.0F, as_int(shifted)};
}

/// e^x within 2 units in the last place; 0 below -104, infinity above 88.73, NaN stays.
inline F32 exp(F32 x) {
  const PowerOfE power = power_of_e(min(max(x, splat(-104.0F)), splat(89.0F)));
  const I32 whole = power.n - as_int(splat(kLowBits));
  const I32 half = whole >> 1;  // 2^n in two steps, so that the ends of the range come out right
  const F32 result = power.fraction * as_float((half + 127) << 23) * as_float((whole - half + 127) << 23);
  return x == x ? result : x;
}

/// 2^x times 2^kMore for x <= 0, within one unit in the last place; 2^-125 of it for what is smaller, which
/// beside 1 makes no difference. NaN stays.
template <int kMore = 0>
inline F32 exp2_below_one(F32 x) {
  const F32 magic = splat(kLowBits);
  const F32 kept = max(splat(-125.0F), x);  // which keeps NaN
  const F32 shifted = kept + magic;
  const F32 r = kept - (shifted - magic);
  F32 p = fma(r, splat(0x1.41fbbcp-13F), splat(0x1.5f3e54p-10F));
  p = fma(p, r, splat(0x1.3b2d4cp-7F));
  p = fma(p, r, splat(0x1.c6aee8p-5F));
  p = fma(p, r, splat(0x1.ebfbdcp-3F));
  p = fma(p, r, splat(0x1.62e43p-1F));
  return fma(p, r, splat(1.0F)) * as_float((as_int(shifted) << 23) + ((127 + kMore) << 23));
}

}  // namespace octet::OCTET_ISA::lanes
