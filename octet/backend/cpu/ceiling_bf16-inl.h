// SPDX-License-Identifier: Apache-2.0
/// The peak of the dot product of bfloat16 pairs. Included by the kernels files that have it, after
/// ceiling-inl.h.
#pragma once

#include "octet/backend/cpu/ceiling-inl.h"

namespace octet::OCTET_ISA {
namespace {

inline int64_t multiply_bf16(int64_t rounds, float* sink) {
  const F32 a = set1(sink[0]);
  const F32 b = set1(sink[1]);
  sink[0] = multiply_rounds(rounds, a, b, sink[0],
                            [](F32 x, F32 y, F32 sum) { return dot_bf16(sum, as_int(x), as_int(y)); });
  return rounds * kSumsPerRound * kLanes * 4;
}

}  // namespace

inline constexpr CeilingKernels kCeilingKernelsBf16 = {.read = read_all<false>,
                                                       .read_streams = read_all<true>,
                                                       .copy = copy_all,
                                                       .f32_multiply = multiply_f32,
                                                       .bf16_multiply = multiply_bf16};

}  // namespace octet::OCTET_ISA
