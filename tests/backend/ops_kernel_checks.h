// SPDX-License-Identifier: Apache-2.0
/// What every instruction set's kernels of loading, of a step and of attention must do, whoever compiled
/// them: the ones chosen at run time and those for AVX-512 emulated on a machine without it.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet::test {

void expect_exact_codes_of_every_bfloat16(const QuantizeKernels& kernels);
void expect_exact_codes_of_random_rows(const QuantizeKernels& kernels);
void expect_exact_conversions(const QuantizeKernels& kernels);
void expect_lanes_as_declared(const QuantizeKernels& kernels);
void expect_abs_max_past_nan(const QuantizeKernels& kernels);
void expect_accurate_silu(const ElementwiseKernels& kernels);
void expect_bits_independent_of_place(const ElementwiseKernels& kernels);
void expect_accurate_attention(const AttentionKernels& kernels);
void expect_attention_independent_of_tile(const AttentionKernels& kernels,
                                          std::initializer_list<int64_t> head_dims);
/// The same where scales of values are too large for a weight.
void expect_scaled_attention_independent_of_tile(const AttentionKernels& kernels);
void expect_attention_inside_of_cache(const AttentionKernels& kernels);
void expect_attention_of_latent_vectors(const AttentionKernels& kernels);
void expect_attention_of_infinite_elements(const AttentionKernels& kernels);

}  // namespace octet::test
