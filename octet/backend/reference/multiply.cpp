// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "octet/backend/reference/elements.h"
#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

size_t index(int64_t i) {
  return static_cast<size_t>(i);
}

/// Row t of the dense operand, rounded as the precision says: out [K].
void load_dense(ConstTensorView x, int64_t t, Precision precision, std::span<float> out) {
  for (int64_t k = 0; k < x.cols(); ++k) {
    const float value = reference::load(x, t, k);
    out[index(k)] = precision == Precision::kBFloat16 ? round_to_bfloat16(value) : value;
  }
}

int64_t rows_of(const Activations& x) {
  return x.quantized ? x.quantized->rows : x.dense.rows();
}

/// The left operand as exact numbers, its scales included: [T, K].
std::vector<double> widen(const Activations& x, int64_t columns) {
  std::vector<double> result(index(rows_of(x) * columns));
  std::vector<float> row(index(columns));
  for (int64_t t = 0; t < rows_of(x); ++t) {
    if (x.quantized) {
      reference::load_codes(*x.quantized, t, row);
    } else {
      load_dense(x.dense, t, x.precision, row);
    }
    for (int64_t k = 0; k < columns; ++k) {
      const float scale = x.quantized ? x.quantized->scale(t, k) : 1.0F;
      result[index(t * columns + k)] = static_cast<double>(scale) * static_cast<double>(row[index(k)]);
    }
  }
  return result;
}

/// Row n of the weight as exact numbers, its scales included: out [K].
void widen_row(const QuantMatrixView& w, int64_t n, std::span<float> codes, std::span<double> out) {
  reference::load_codes(w, n, codes);
  for (int64_t k = 0; k < w.cols; ++k) {
    out[index(k)] = static_cast<double>(w.scale(n, k)) * static_cast<double>(codes[index(k)]);
  }
}

void check_gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  const bool dense = !x.quantized.has_value();
  check(!dense || x.dense.dtype() == DType::kF32, "gemm takes float32 or FP8 activations");
  check(y.dtype() == DType::kF32, "gemm gives float32");
  check(rows_of(x) == y.rows(), "gemm gives one row for each row of activations");
  check(rows_of(x) == 0 || (dense ? x.dense.cols() : x.quantized->cols) == w.cols,
        "gemm: x and w differ in K");
  check(y.rows() == 0 || y.cols() == w.rows, "gemm: y and w differ in N");
  check(bias.empty() || (bias.cols() == w.rows && is_real(bias.dtype())), "gemm: bias and w differ in N");
}

}  // namespace

void ReferenceBackend::quantize_activations(ConstTensorView x, Precision precision,
                                            std::optional<float> static_scale, const QuantMatrixView& q) {
  check(x.dtype() == DType::kF32 && is_fp8(q.dtype), "quantize_activations takes float32 and gives FP8");
  check(x.rows() == q.rows && (q.rows == 0 || x.cols() == q.cols), "quantize_activations keeps the shape");
  check(q.scale_kind != ScaleKind::kNone, "quantized activations have one scale per row or per group");
  const bool grouped = q.scale_kind == ScaleKind::kGrid;
  std::vector<float> row(index(q.cols));
  for (int64_t t = 0; t < q.rows; ++t) {
    load_dense(x, t, precision, row);
    const int64_t group = grouped ? q.part_of(t).block_cols : std::max<int64_t>(1, q.cols);
    for (int64_t begin = 0; begin < q.cols; begin += group) {
      const int64_t end = std::min(begin + group, q.cols);
      const float amax = reference::abs_max(std::span(row).subspan(index(begin), index(end - begin)));
      const float dynamic =
          grouped ? std::max(amax, 1e-10F) / max_finite(q.dtype) : reference::dynamic_scale(amax, q.dtype);
      const float scale = static_scale.value_or(dynamic);
      q.scales[grouped ? q.part_of(t).index(t, begin) : t] = scale;
      for (int64_t k = begin; k < end; ++k) {
        const float value = row[index(k)];
        const float quotient = static_scale ? value * (1.0F / scale) : value / scale;
        *q.element(t, k) = static_cast<std::byte>(reference::encode(quotient, q.dtype, true));
      }
    }
  }
}

void ReferenceBackend::gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias,
                            TensorView y) {
  check_gemm(x, w, bias, y);
  if (y.rows() == 0) return;
  const int64_t columns = w.cols;
  const std::vector<double> left = widen(x, columns);  // [T, K]
  std::vector<float> codes(index(columns));
  std::vector<double> right(index(columns));
  for (int64_t n = 0; n < w.rows; ++n) {
    widen_row(w, n, codes, right);
    for (int64_t t = 0; t < y.rows(); ++t) {
      double sum = 0;
      for (int64_t k = 0; k < columns; ++k) sum += left[index(t * columns + k)] * right[index(k)];
      if (!bias.empty()) sum += static_cast<double>(reference::load(bias, 0, n));
      y.row<float>(t)[n] = static_cast<float>(sum);
    }
  }
}

void ReferenceBackend::gemm_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w,
                                    ConstTensorView bias, TensorView y) {
  check(is_real(x.dtype()) && is_real(y.dtype()), "gemm_dynamic takes and gives F32, F16 or BF16");
  check(w.dtype == DType::kF8E4M3, "gemm_dynamic takes E4M3");
  check(x.shape()[0] == y.shape()[0] && x.cols() == w.cols && y.cols() == w.rows,
        "gemm_dynamic: the shapes of x, w and y do not fit");
  std::vector<float> wide(index(w.cols));
  std::vector<float> sums(index(w.rows));
  std::vector<std::byte> codes(index(w.cols));
  for (int64_t t = 0; t < y.rows(); ++t) {
    bool finite = true;
    for (int64_t k = 0; k < w.cols; ++k) {
      wide[index(k)] = reference::load(x, t, k);
      finite = finite && std::isfinite(wide[index(k)]);
    }
    float scale = 0;
    const QuantMatrixView q{.data = codes.data(),
                            .dtype = DType::kF8E4M3,
                            .rows = 1,
                            .cols = w.cols,
                            .scale_kind = ScaleKind::kRow,
                            .scales = &scale};
    quantize_activations(view_of(wide.data(), Shape{1, w.cols}), precision, std::nullopt, q);
    if (!finite) scale = std::numeric_limits<float>::quiet_NaN();
    gemm({.dense = {}, .precision = precision, .quantized = q}, w, bias,
         view_of(sums.data(), Shape{1, w.rows}));
    std::byte* into = y.row<std::byte>(t);
    for (int64_t n = 0; n < w.rows; ++n)
      reference::save(sums[index(n)], into + n * dtype_size(y.dtype()), y.dtype());
  }
}

void ReferenceBackend::grouped_gemm(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) {
  for (const MatrixGroup& group : groups) {
    gemm(activation_rows(x, group.begin, group.end), group.w, {}, y.slice_rows(group.begin, group.end));
  }
}

namespace {

void check_heads(ConstTensorView x, const HeadMatrix& heads, ConstTensorView y, bool transposed) {
  check(x.dtype() == DType::kF32 && y.dtype() == DType::kF32, "a multiply by heads takes and gives float32");
  check(heads.heads > 0 && heads.first >= 0 && heads.first + heads.count <= heads.stride &&
            heads.heads * heads.stride <= heads.w.rows,
        "the rows of a head lie outside of the matrix");
  check(heads.x_stride >= (transposed ? heads.count : heads.w.cols) &&
            heads.y_stride >= (transposed ? heads.w.cols : heads.count),
        "the columns of heads overlap");
  check(x.rows() == y.rows() && (x.rows() == 0 || (x.cols() == heads.heads * heads.x_stride &&
                                                   y.cols() == heads.heads * heads.y_stride)),
        "a multiply by heads needs the columns of all heads");
}

}  // namespace

void ReferenceBackend::gemm_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                                  TensorView y) {
  check_heads(x, heads, y, false);
  std::vector<float> codes(index(heads.w.cols));
  std::vector<double> right(index(heads.w.cols));
  std::vector<float> left(index(x.cols()));
  for (int64_t t = 0; t < x.rows(); ++t) {
    load_dense(x, t, precision, left);
    for (int64_t h = 0; h < heads.heads; ++h) {
      for (int64_t n = 0; n < heads.count; ++n) {
        widen_row(heads.w, h * heads.stride + heads.first + n, codes, right);
        double sum = 0;
        for (int64_t k = 0; k < heads.w.cols; ++k)
          sum += static_cast<double>(left[index(h * heads.x_stride + k)]) * right[index(k)];
        y.row<float>(t)[h * heads.y_stride + n] = static_cast<float>(sum);
      }
    }
  }
}

void ReferenceBackend::gemm_heads_transposed(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                                             TensorView y) {
  check_heads(x, heads, y, true);
  std::vector<float> codes(index(heads.w.cols));
  std::vector<double> right(index(heads.w.cols));
  std::vector<float> left(index(x.cols()));
  std::vector<double> sums(index(heads.w.cols));
  for (int64_t t = 0; t < x.rows(); ++t) {
    load_dense(x, t, precision, left);
    for (int64_t h = 0; h < heads.heads; ++h) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t n = 0; n < heads.count; ++n) {
        widen_row(heads.w, h * heads.stride + heads.first + n, codes, right);
        const auto factor = static_cast<double>(left[index(h * heads.x_stride + n)]);
        for (size_t k = 0; k < sums.size(); ++k) sums[k] += factor * right[k];
      }
      for (size_t k = 0; k < sums.size(); ++k)
        y.row<float>(t)[h * heads.y_stride + static_cast<int64_t>(k)] = static_cast<float>(sums[k]);
    }
  }
}

}  // namespace octet
