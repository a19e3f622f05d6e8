// SPDX-License-Identifier: Apache-2.0
/// W8A8 for a matrix that some other program owns: a 16-bit weight becomes FP8 codes, activations become
/// codes on the fly, and the product is rounded once. What Fp8Linear and the Python package are made of.
#pragma once

#include <cstdint>

#include "octet/backend/backend.h"
#include "octet/core/quant_matrix.h"
#include "octet/core/tensor.h"

namespace octet {

/// Which elements of a weight share one scale.
enum class Fp8WeightScale {
  kTensor,   ///< all: s = amax / 448, no floor; codes by multiplying with 1 / s
  kChannel,  ///< each output row: s = max(amax / 448, 1 / (448 * 512)); codes by division
};

/// Quantizes `source` [N, K] (F32, F16 or BF16; rounded to bfloat16 first) into `w` [N, K]: FP8 E4M3, one
/// scale for each row, its memory zero-filled. A scale of the whole tensor is spread to the rows. Works on
/// the backend's threads and holds 64 rows a thread beside the result. Throws ArgumentError, with nothing
/// written, when a value is NaN or infinite.
void quantize_fp8_weight(Backend& backend, ConstTensorView source, Fp8WeightScale granularity,
                         const QuantMatrixView& w);

/// How many values of `source` [N, K] (F32, F16 or BF16) are NaN or infinite in bfloat16: what
/// `quantize_fp8_weight` refuses. On the backend's threads.
[[nodiscard]] int64_t count_not_finite(Backend& backend, ConstTensorView source);

/// y = x * w^T + bias with x in FP8: per row s_a = max(amax / 448, 1 / (448 * 512)) and codes by division;
/// products accumulate in float32; y = s_a * s_w * acc + bias in float32, then one rounding to the dtype of
/// y. A row of x that holds NaN or infinity makes a row of NaN.
///   x     [T, K]  F32 (rounded to bfloat16 first), F16 or BF16; rows may be strided; T may be 0
///   w     [N, K]  FP8 E4M3 with one scale for each row, or one for all (a grid of one block)
///   bias  [N]     F32, F16 or BF16, or empty
///   y     [T, N]  F32, F16 or BF16
/// On the backend's threads, so not from two at once. Throws ArgumentError when shapes or dtypes do not fit.
void fp8_gemm(Backend& backend, ConstTensorView x, const QuantMatrixView& w, ConstTensorView bias,
              TensorView y);

}  // namespace octet
