// SPDX-License-Identifier: Apache-2.0
/// The operations of a step that take each element by itself, written once over lanes-inl.h. The last few
/// elements of a row go through the same vector arithmetic, so a value's bits do not depend on its place.
#pragma once

#include "octet/backend/cpu/fp8-inl.h"
#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/ops_kernels.h"

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
  const F32 by = splat(scale);
  for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    save_bytes(round_to_fp8<Format>(value(i, n) / by, true).codes, run.codes + i, n);
  });
  return scale;
}

inline float quantize_any_activations(const ActivationRun& run) {
  return run.to == DType::kF8E4M3 ? quantize_activations<E4M3>(run) : quantize_activations<E5M2>(run);
}

}  // namespace lanes

inline constexpr ElementwiseKernels kElementwiseKernels = {
    .rms_norm = lanes::rms_norm,
    .add = lanes::add,
    .silu_mul = lanes::silu_mul,
    .rotate = lanes::rotate,
    .quantize = lanes::quantize_any_activations,
};

}  // namespace octet::OCTET_ISA
