// SPDX-License-Identifier: Apache-2.0
/// The operations of a step that take each element by itself, written once over lanes-inl.h. The last few
/// elements of a row go through the same vector arithmetic, so a value's bits do not depend on its place.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/quantize_cells-inl.h"

namespace octet::OCTET_ISA {
namespace lanes {

inline void rms_norm(const NormRun& run) {
  F64 low{};
  F64 high{};
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 x = widen_some(run.x + i, n);
    low += low_doubles(x) * low_doubles(x);
    high += high_doubles(x) * high_doubles(x);
  });
  const double mean = sum_of(low + high) / static_cast<double>(run.count);
  const F32 inverse = splat(static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(run.eps))));
  visit_real(run.weight_dtype, [&]<class T>() {
    const auto* weight = reinterpret_cast<const T*>(run.weight);
    for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      narrow_some(widen_some(run.x + i, n) * inverse * widen_some(weight + i, n), run.y + i, n);
    });
  });
}

/// The mean and the variance in float64, each in a pass of its own.
struct Moments {
  double mean = 0;
  double variance = 0;
};

inline Moments moments_of(const float* x, int64_t count) {
  const auto size = static_cast<double>(count);
  const int64_t whole = count / kLanes * kLanes;
  F64 low{};
  F64 high{};
  double rest = 0;
  for (int64_t i = 0; i < whole; i += kLanes) {
    low += low_doubles(widen(x + i));
    high += high_doubles(widen(x + i));
  }
  for (int64_t i = whole; i < count; ++i) rest += static_cast<double>(x[i]);
  const double mean = (sum_of(low + high) + rest) / size;
  low = high = F64{};
  rest = 0;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const F64 a = low_doubles(widen(x + i)) - mean;
    const F64 b = high_doubles(widen(x + i)) - mean;
    low += a * a;
    high += b * b;
  }
  for (int64_t i = whole; i < count; ++i) {
    const double a = static_cast<double>(x[i]) - mean;
    rest += a * a;
  }
  return {mean, (sum_of(low + high) + rest) / size};
}

inline void multiply_by(const std::byte* factors, DType dtype, int64_t count, float* y) {
  visit_real(dtype, [&]<class T>() {
    const auto* factor = reinterpret_cast<const T*>(factors);
    for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      narrow_some(widen_some(y + i, n) * widen_some(factor + i, n), y + i, n);
    });
  });
}

inline void add_to(const std::byte* terms, DType dtype, int64_t count, float* y) {
  visit_real(dtype, [&]<class T>() {
    const auto* term = reinterpret_cast<const T*>(terms);
    for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      narrow_some(widen_some(y + i, n) + widen_some(term + i, n), y + i, n);
    });
  });
}

inline void layer_norm(const LayerNormRun& run) {
  const Moments moments = moments_of(run.x, run.count);
  // The mean in two floats: what x and a large mean have in common cancels without loss.
  const auto coarse = static_cast<float>(moments.mean);
  const F32 mean = splat(coarse);
  const F32 mean_rest = splat(static_cast<float>(moments.mean - static_cast<double>(coarse)));
  const F32 inverse =
      splat(static_cast<float>(1.0 / __builtin_sqrt(moments.variance + static_cast<double>(run.eps))));
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    narrow_some((widen_some(run.x + i, n) - mean - mean_rest) * inverse, run.y + i, n);
  });
  if (run.weight != nullptr) multiply_by(run.weight, run.weight_dtype, run.count, run.y);
  if (run.bias != nullptr) add_to(run.bias, run.bias_dtype, run.count, run.y);
}

inline void relu(float* x, int64_t count) {
  for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 value = widen_some(x + i, n);
    narrow_some(value < 0.0F ? F32{} : value, x + i, n);  // false for NaN
  });
}

inline void add(const float* x, int64_t count, float* y) {
  for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    narrow_some(widen_some(y + i, n) + widen_some(x + i, n), y + i, n);
  });
}

inline void silu_mul(const float* gate, const float* up, int64_t count, float* y) {
  for_vectors(count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 g = widen_some(gate + i, n);
    narrow_some(g / (1.0F + exp(-g)) * widen_some(up + i, n), y + i, n);
  });
}

inline void rotate(const RotateRun& run) {
  if (run.step != 1) {
    for (int64_t i = 0; i < run.count; ++i) {
      const float a = run.first[i * run.step];
      const float b = run.second[i * run.step];
      run.first[i * run.step] = a * run.cos[i] - b * run.sin[i];
      run.second[i * run.step] = b * run.cos[i] + a * run.sin[i];
    }
    return;
  }
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 a = widen_some(run.first + i, n);
    const F32 b = widen_some(run.second + i, n);
    const F32 cos = widen_some(run.cos + i, n);
    const F32 sin = widen_some(run.sin + i, n);
    narrow_some(a * cos - b * sin, run.first + i, n);
    narrow_some(b * cos + a * sin, run.second + i, n);
  });
}

inline void combine(const CombineRun& run) {
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    F32 sum{};
    for (int64_t j = 0; j < run.terms; ++j) {
      sum += splat(run.weights[j]) * widen_some(run.x + run.rows[j] * run.stride + i, n);
    }
    narrow_some(sum, run.y + i, n);
  });
}

template <class Format>
inline float quantize_activations(const ActivationRun& run) {
  const auto value = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const F32 x = widen_some(run.x + i, n);
    return run.round_to_bfloat16 ? round_to<bfloat16>(x) : x;
  };
  float scale = 0;
  if (run.given_scale != nullptr) {
    scale = *run.given_scale;
  } else {
    F32 most{};
    for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const F32 size = magnitude(value(i, n));
      most = size > most ? size : most;  // false for NaN
    });
    const float amax = largest(most);
    const float floored = (amax > run.amax_floor ? amax : run.amax_floor) / max_of<Format>()[0];
    scale = floored > run.scale_floor ? floored : run.scale_floor;
  }
  const auto encode = [&](auto quotient) {
    for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      save_bytes(round_to_fp8<Format>(quotient(value(i, n)), true).codes, run.codes + i, n);
    });
  };
  const F32 by = splat(run.given_scale != nullptr ? 1.0F / scale : scale);
  if (run.given_scale != nullptr) {
    encode([&](F32 x) __attribute__((always_inline)) { return x * by; });
  } else {
    encode([&](F32 x) __attribute__((always_inline)) { return x / by; });
  }
  return scale;
}

inline float quantize_any_activations(const ActivationRun& run) {
  return run.to == DType::kF8E4M3 ? quantize_activations<E4M3>(run) : quantize_activations<E5M2>(run);
}

}  // namespace lanes

inline constexpr ElementwiseKernels kElementwiseKernels = {
    .rms_norm = lanes::rms_norm,
    .layer_norm = lanes::layer_norm,
    .add = lanes::add,
    .silu_mul = lanes::silu_mul,
    .relu = lanes::relu,
    .rotate = lanes::rotate,
    .combine = lanes::combine,
    .quantize = lanes::quantize_any_activations,
    .quantize_cells = lanes::quantize_cells,
};

}  // namespace octet::OCTET_ISA
