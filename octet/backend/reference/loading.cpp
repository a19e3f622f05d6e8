// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "octet/backend/reference/elements.h"
#include "octet/backend/reference/reference_backend.h"
#include "octet/base/checked_math.h"

namespace octet {
namespace {

/// Throws unless tile x lies inside the matrix.
void check_place(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) {
  check(at.row >= 0 && at.col >= 0 && at.row + x.rows() <= w.rows && at.col + x.cols() <= w.cols,
        "the tile lies outside of the matrix");
}

float round_as(float value, DType dtype) {
  std::byte rounded[4];
  reference::save(value, rounded, dtype);
  return reference::load(rounded, dtype);
}

float quotient_of(float x, float scale, DType x_dtype, QuantizeRule::Quotient rule) {
  switch (rule) {
    case QuantizeRule::Quotient::kDivide:
      return x / scale;
    case QuantizeRule::Quotient::kReciprocal:
      return x * (1.0F / scale);
    case QuantizeRule::Quotient::kDivideRounded:
      return round_as(x / scale, x_dtype);
  }
  return x;
}

/// What one element adds: `q` is its code as a number, without the scale.
void count(float x, float q, float scale, QuantizeStats& stats) {
  if (x != 0.0F && q == 0.0F) ++stats.zeroed;
  if (!std::isfinite(x)) return;
  const double error = static_cast<double>(x) - static_cast<double>(scale) * static_cast<double>(q);
  stats.signal += static_cast<double>(x) * static_cast<double>(x);
  stats.noise += error * error;
}

}  // namespace

int64_t ReferenceBackend::abs_max(ConstTensorView x, int64_t first_segment, int64_t segment,
                                  TensorView amax) {
  check(is_real(x.dtype()) && amax.dtype() == DType::kF32, "abs_max takes F32, F16 or BF16 and gives F32");
  check(first_segment > 0 && segment > 0, "abs_max needs runs of at least one column");
  const int64_t rest = std::max<int64_t>(0, x.cols() - first_segment);
  check(x.rows() == 0 || (amax.rows() == x.rows() && amax.cols() == 1 + ceil_div(rest, segment)),
        "abs_max: one result for each row and run");
  int64_t not_finite = 0;
  for (int64_t r = 0; r < x.rows(); ++r) {
    auto* result = amax.row<float>(r);
    std::fill_n(result, amax.cols(), 0.0F);
    for (int64_t c = 0; c < x.cols(); ++c) {
      const float magnitude = std::fabs(reference::load(x, r, c));
      const int64_t run = c < first_segment ? 0 : 1 + (c - first_segment) / segment;
      if (magnitude > result[run]) result[run] = magnitude;
      if (!std::isfinite(magnitude)) ++not_finite;
    }
  }
  return not_finite;
}

void ReferenceBackend::quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at,
                                const QuantizeRule& rule, QuantizeStats* stats) {
  check(is_real(x.dtype()) && is_fp8(w.dtype), "quantize takes F32, F16 or BF16 and gives FP8");
  check_place(x, w, at);
  const float limit = max_finite(w.dtype);
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      const float value = reference::load(x, r, c);
      const float scale = w.scale(at.row + r, at.col + c);
      const bool raw = w.scale_kind == ScaleKind::kNone;
      const float quotient = raw ? value : quotient_of(value, scale, x.dtype(), rule.quotient);
      std::byte* code = w.element(at.row + r, at.col + c);
      *code = static_cast<std::byte>(reference::encode(quotient, w.dtype, rule.nan_saturates));
      if (stats == nullptr) continue;
      if (std::fabs(quotient) > limit) ++stats->saturated;
      count(value, reference::load(code, w.dtype), scale, *stats);
    }
  }
  if (stats != nullptr) stats->elements += x.rows() * x.cols();
}

void ReferenceBackend::store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) {
  const bool same = x.dtype() == w.dtype;
  check(same || (is_real(x.dtype()) && is_real(w.dtype)), "store changes no dtype to or from FP8");
  check_place(x, w, at);
  const int64_t size = dtype_size(x.dtype());
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      const std::byte* from = x.row<std::byte>(r) + c * size;
      std::byte* into = w.element(at.row + r, at.col + c);
      if (same) {
        std::memcpy(into, from, static_cast<size_t>(size));
      } else {
        reference::save(reference::load(from, x.dtype()), into, w.dtype);
      }
    }
  }
}

void ReferenceBackend::read_rows(const QuantMatrixView& w, int64_t row, TensorView y) {
  const bool bits = y.dtype() == w.dtype && y.dtype() != DType::kF32;
  check(bits || y.dtype() == DType::kF32, "read_rows gives float32 or the stored dtype");
  check(row >= 0 && row + y.rows() <= w.rows && (y.rows() == 0 || y.cols() == w.cols),
        "the rows to read lie outside of the matrix");
  const int64_t size = dtype_size(y.dtype());
  for (int64_t r = 0; r < y.rows(); ++r) {
    for (int64_t c = 0; c < w.cols; ++c) {
      const std::byte* from = w.element(row + r, c);
      if (bits) {
        std::memcpy(y.row<std::byte>(r) + c * size, from, static_cast<size_t>(size));
      } else {
        y.row<float>(r)[c] = w.scale(row + r, c) * reference::load(from, w.dtype);
      }
    }
  }
}

}  // namespace octet
