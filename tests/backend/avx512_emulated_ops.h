// SPDX-License-Identifier: Apache-2.0
/// The AVX-512 kernels beside the multiply, computed by SIMDe.
#pragma once

#include <array>
#include <cstring>

#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet {

[[nodiscard]] const QuantizeKernels& emulated_quantize_kernels();
[[nodiscard]] const ElementwiseKernels& emulated_elementwise_kernels();
[[nodiscard]] const AttentionKernels& emulated_attention_kernels();
/// The same for processors to which subnormal operands are slow.
[[nodiscard]] const AttentionKernels& emulated_normal_attention_kernels();
/// The same with the look-ups of VBMI: what kernels_avx512_bf16() has for such processors.
[[nodiscard]] const AttentionKernels& emulated_table_attention_kernels();
/// As kernels_amx_bf16() has them.
[[nodiscard]] const AttentionKernels& emulated_amx_attention_kernels();

}  // namespace octet
