// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/nonfinite_rows.h"

#include <cmath>
#include <limits>

namespace octet {
namespace {

float widen(std::byte code, DType dtype) {
  const auto bits = static_cast<uint8_t>(code);
  return dtype == DType::kF8E4M3 ? to_float(float8_e4m3{bits}) : to_float(float8_e5m2{bits});
}

float activation(const Activations& x, int64_t token, int64_t k) {
  if (x.quantized) {
    const float code = widen(*x.quantized->element(token, k), x.quantized->dtype);
    return code * x.quantized->scale(token, k);
  }
  const float value = x.dense.row<float>(token)[k];
  return x.precision == Precision::kBFloat16 ? round_to_bfloat16(value) : value;
}

/// Zero where the row is finite; otherwise the sum of the products with its codes that are not.
float nonfinite_sum(const Activations& x, const QuantMatrixView& w, int64_t row, int64_t token) {
  float sum = 0;
  for (int64_t k = 0; k < w.cols; ++k) {
    const float value = widen(*w.element(row, k), w.dtype);
    if (!std::isfinite(value)) sum += value * w.scale(row, k) * activation(x, token, k);
  }
  return sum;
}

bool holds_nonfinite(const QuantMatrixView& w, int64_t row) {
  const int most = w.dtype == DType::kF8E4M3 ? 0x7e : 0x7b;
  for (int64_t k = 0; k < w.cols; ++k) {
    if ((static_cast<uint8_t>(*w.element(row, k)) & 0x7f) > most) return true;
  }
  return false;
}

}  // namespace

void widen_vector(ConstTensorView x, int64_t begin, std::span<float> out) {
  visit_float(x.dtype(), [&]<class T>() {
    const T* values = x.row<T>(0) + begin;
    for (float& value : out) value = to_float(*values++);
  });
}

void multiply_nonfinite_rows(const Activations& x, const QuantMatrixView& w, IndexRange rows,
                             IndexRange tokens, TensorView y) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    if (!holds_nonfinite(w, row)) continue;
    for (int64_t token = tokens.begin; token < tokens.end; ++token) {
      // A sum already NaN (of x) stays so; the finite products and the bias change no infinity.
      float& out = y.row<float>(token)[row];
      out = std::isnan(out) ? out : nonfinite_sum(x, w, row, token);
    }
  }
}

void mark_nan_rows(const QuantMatrixView& w, IndexRange rows, IndexRange tokens, TensorView y) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    if (!holds_nonfinite(w, row)) continue;
    visit_float(y.dtype(), [&]<class T>() {
      for (int64_t token = tokens.begin; token < tokens.end; ++token)
        y.row<T>(token)[row] = from_float<T>(std::numeric_limits<float>::quiet_NaN());
    });
  }
}

}  // namespace octet
