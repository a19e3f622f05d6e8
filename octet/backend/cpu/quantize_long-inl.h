// SPDX-License-Identifier: Apache-2.0
/// Quantizing by arithmetic: any type, any value. Included by quantize-inl.h.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet::OCTET_ISA::lanes {

/// A scale with its reciprocal, in every lane.
struct Divisor {
  QuotientKind kind;
  F32 scale;
  F32 reciprocal;

  Divisor(QuotientKind quotient, float value)
      : kind(quotient), scale(splat(value)), reciprocal(1.0F / scale) {}
};

template <class T>
inline F32 quotient(F32 x, const Divisor& by) {
  switch (by.kind) {
    case QuotientKind::kRaw:
      return x;
    case QuotientKind::kDivide:
      return x / by.scale;
    case QuotientKind::kReciprocal:
      return x * by.reciprocal;
    case QuotientKind::kDivideRounded:
      return round_to<T>(x / by.scale);
  }
  return x;
}

/// Sums of one run, lane by lane.
struct LaneSums {
  F64 signal{};
  F64 noise{};
  I32 zeroed{};
  I32 saturated{};

  /// x and its code's magnitude q; values that are not finite have no part in signal and noise.
  [[gnu::always_inline]] void add(F32 x, F32 q, F32 scale) {
    zeroed -= (x != 0.0F) & (q == 0.0F);
    const I32 not_finite = as_int(magnitude(x)) >= 0x7f800000;
    if (any((Halves)not_finite)) return add_finite_lanes(x, q, scale);
    const F32 size = magnitude(x);
    const F64 by = low_doubles(magnitude(scale));
    add_doubles(low_doubles(size), low_doubles(q), by);
    add_doubles(high_doubles(size), high_doubles(q), by);
  }
  /// float32 sums of up to 64 values in each lane.
  [[gnu::always_inline]] void add_short(F32 short_signal, F32 short_noise) {
    signal += low_doubles(short_signal) + high_doubles(short_signal);
    noise += low_doubles(short_noise) + high_doubles(short_noise);
  }
  void add_doubles(F64 value, F64 q, F64 scale) {
    const F64 error = value - scale * q;
    signal += value * value;
    noise += error * error;
  }
  [[gnu::noinline]] void add_finite_lanes(F32 x, F32 q, F32 scale) {
    for (int i = 0; i < kLanes; ++i) {
      if (!(__builtin_fabsf(x[i]) <= 0x1.fffffep127F)) continue;
      const double value = static_cast<double>(__builtin_fabsf(x[i]));
      const double error = value - static_cast<double>(__builtin_fabsf(scale[i])) * static_cast<double>(q[i]);
      signal[0] += value * value;
      noise[0] += error * error;
    }
  }
  void add_to(QuantizeSums& sums) const {
    sums.signal += sum_of(signal);
    sums.noise += sum_of(noise);
    sums.zeroed += sum_of(zeroed);
    sums.saturated += sum_of(saturated);
  }
};

/// One vector of any values.
template <class T, class Format>
[[gnu::noinline]] void quantize_any_vector(const QuantizeKind& kind, const Divisor& by, F32 value,
                                           std::byte* codes, LaneSums& sums) {
  const F32 q = quotient<T>(value, by);
  const Rounded rounded = round_to_fp8<Format>(q, kind.nan_saturates);
  save_bytes(rounded.codes, codes);
  sums.saturated -= magnitude(q) > max_of<Format>();
  sums.add(value, rounded.size, by.scale);
}

/// Up to `count` elements.
template <class T, class Format>
inline void quantize_any(const QuantizeKind& kind, const Divisor& by, const T* x, int64_t count,
                         std::byte* codes, LaneSums& sums) {
  for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    std::byte part[kLanes];
    quantize_any_vector<T, Format>(kind, by, widen_some(x + i, n), part, sums);
    __builtin_memcpy(codes + i, part, static_cast<size_t>(n));
  });
}

/// Sizes whose squares, and those of their errors, float32 holds well: zero, and from 2^-36 to 2^60. A scale
/// within 2^-60 and 2^60 leaves no quotient of theirs without a value.
inline constexpr int32_t kSmallestShort = (127 - 36) << 23;
inline constexpr uint32_t kShortSpan = (36U + 60U) << 23;
inline constexpr float kSmallestShortScale = 0x1p-60F;
inline constexpr float kLargestShortScale = 0x1p60F;
inline constexpr int64_t kLongStep = 4 * kLanes;  // values of one step: a register full of codes
inline constexpr int64_t kLongAhead = 2048;       // bytes
inline constexpr int64_t kStepsPerSum = 16;       // 64 additions in each float32 lane

/// Whether all that lies outside of those sizes is zero.
[[gnu::noinline]] inline bool zero_or_short(const F32 (&values)[4]) {
  I32 outside{};
  for (const F32 value : values) {
    const U32 above = (U32)(as_int(magnitude(value)) - kSmallestShort);
    outside |= (I32)(above > kShortSpan) & (value != 0.0F);
  }
  return !any((Halves)outside);
}

/// Up to `steps` steps; ends before one that holds a value whose square float32 cannot sum. Returns how many
/// were done.
template <class T, class Format, QuotientKind kQuotient>
[[gnu::noinline]] int64_t quantize_steps(const T* x, int64_t steps, const Divisor& divisor, std::byte* codes,
                                         LaneSums& sums) {
  constexpr auto kStepBytes = kLongStep * static_cast<int64_t>(sizeof(T));
  Divisor by = divisor;
  by.kind = kQuotient;
  // Where the product of scale and code would be rounded, the scale's upper bits go first: theirs is exact.
  const F32 upper = kProductRounded ? as_float(as_int(by.scale) & ~0xfff) : by.scale;
  const F32 lower = by.scale - upper;
  F32 signal{};
  F32 noise{};
  I32 zeros{};
  I32 zero_codes{};
  I32 saturated{};
  int64_t step = 0;
  for (; step < steps; ++step, x += kLongStep, codes += kLongStep) {
    F32 value[4];
    I32 outside{};
    // What a tile takes next of this row, when it has been through the others.
    for (int64_t ahead = 0; ahead < kStepBytes; ahead += 64)
      __builtin_prefetch(reinterpret_cast<const std::byte*>(x) + kLongAhead + ahead);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      value[v] = widen(x + v * kLanes);
      const U32 above = (U32)(as_int(magnitude(value[v])) - kSmallestShort);
      outside |= (I32)(above > kShortSpan);
    }
    if (any((Halves)outside)) {
      if (!zero_or_short(value)) break;
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) zeros -= value[v] == 0.0F;
    }
    I32 code[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const F32 size = magnitude(value[v]);
      const F32 q = magnitude(quotient<T>(value[v], by));
      const Rounded rounded = round_size_to_fp8<Format>(q);
      F32 error = fma(-upper, rounded.size, size);
      if (kProductRounded) error = fma(-lower, rounded.size, error);
      code[v] = rounded.codes;
      signal = fma(size, size, signal);
      noise = fma(error, error, noise);
      zero_codes -= rounded.size == 0.0F;
      saturated -= q > max_of<Format>();
    }
    save_codes(code, value, codes);
  }
  sums.add_short(signal, noise);
  sums.zeroed += zero_codes - zeros;
  sums.saturated += saturated;
  return step;
}

template <class T, class Format, QuotientKind kQuotient>
inline void quantize_row(const QuantizeKind& kind, const Divisor& by, const T* x, int64_t count,
                         std::byte* codes, LaneSums& sums) {
  const bool ordinary = by.scale[0] >= kSmallestShortScale && by.scale[0] <= kLargestShortScale;
  const int64_t steps = ordinary ? count / kLongStep : 0;
  for (int64_t step = 0; step < steps;) {
    const int64_t wanted = steps - step < kStepsPerSum ? steps - step : kStepsPerSum;
    const int64_t i = step * kLongStep;
    const int64_t done = quantize_steps<T, Format, kQuotient>(x + i, wanted, by, codes + i, sums);
    step += done;
    if (done == wanted) continue;
    quantize_any<T, Format>(kind, by, x + step * kLongStep, kLongStep, codes + step * kLongStep, sums);
    ++step;
  }
  const int64_t i = steps * kLongStep;
  quantize_any<T, Format>(kind, by, x + i, count - i, codes + i, sums);
}

/// A row of any type.
template <class T, class Format>
inline void quantize_long(const QuantizeKind& kind, const Divisor& by, const T* x, int64_t count,
                          std::byte* codes, LaneSums& sums) {
  switch (kind.quotient) {
    case QuotientKind::kRaw:
      return quantize_row<T, Format, QuotientKind::kRaw>(kind, by, x, count, codes, sums);
    case QuotientKind::kDivide:
      return quantize_row<T, Format, QuotientKind::kDivide>(kind, by, x, count, codes, sums);
    case QuotientKind::kReciprocal:
      return quantize_row<T, Format, QuotientKind::kReciprocal>(kind, by, x, count, codes, sums);
    case QuotientKind::kDivideRounded:
      return quantize_row<T, Format, QuotientKind::kDivideRounded>(kind, by, x, count, codes, sums);
  }
}

}  // namespace octet::OCTET_ISA::lanes
