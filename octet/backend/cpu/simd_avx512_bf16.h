// SPDX-License-Identifier: Apache-2.0
/// AVX-512 with BF16 and VBMI: the vectors of simd_avx512.h, and the dot product of pairs of bfloat16.
#pragma once

#include "octet/backend/cpu/simd_avx512.h"

namespace octet::OCTET_ISA {

/// acc + a.low * b.low + a.high * b.high in every lane of two bfloat16. Subnormal operands and results count as zero.
inline F32 dot_bf16(F32 acc, I32 a, I32 b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

}  // namespace octet::OCTET_ISA
