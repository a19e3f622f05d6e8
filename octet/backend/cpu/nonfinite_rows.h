// SPDX-License-Identifier: Apache-2.0
/// Rows of weights that hold a code without a finite value, multiplied one output at a time; and the widening
/// of single elements that the multiply needs. Used by multiply.cpp.
#pragma once

#include <span>

#include "octet/backend/backend.h"
#include "octet/core/shape.h"

namespace octet {

/// Elements [begin, begin + out.size()) of a vector of F32, F16 or BF16.
void widen_vector(ConstTensorView x, int64_t begin, std::span<float> out);

/// Computes the outputs `rows` of `tokens` again where the row of w (FP8) holds NaN or infinity: such a row
/// gives NaN, or the infinity that its products add up to.
void multiply_nonfinite_rows(const Activations& x, const QuantMatrixView& w, IndexRange rows,
                             IndexRange tokens, TensorView y);
/// Writes NaN into the outputs `rows` of `tokens` where the row of w (E4M3) holds NaN; y of any float type.
void mark_nan_rows(const QuantMatrixView& w, IndexRange rows, IndexRange tokens, TensorView y);

}  // namespace octet
