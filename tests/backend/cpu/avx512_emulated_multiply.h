// SPDX-License-Identifier: Apache-2.0
/// The AVX-512 kernels of the multiply, compiled for machines without AVX-512 and AMX.
#pragma once

#include "octet/backend/cpu/multiply_kernels.h"

namespace octet {

/// As kernels_avx512() has them.
const MultiplyKernels& emulated_avx512_multiply_kernels();
/// The same for processors to which subnormal operands are slow.
const FloatPanels& emulated_avx512_normal_panels();
/// As kernels_avx512_bf16() has them.
const MultiplyKernels& emulated_avx512_bf16_multiply_kernels();
/// As kernels_amx_bf16() has them.
const MultiplyKernels& emulated_amx_bf16_multiply_kernels();

}  // namespace octet
