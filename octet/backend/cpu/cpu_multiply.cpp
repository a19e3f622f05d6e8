// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/checked_math.h"

namespace octet {
namespace {

/// Tokens of one head that a thread takes in a row.
constexpr int64_t kTokensOfTask = 8;

size_t format_index(DType dtype) {
  constexpr std::array kFormats = {DType::kF8E4M3, DType::kF8E5M2, DType::kBF16, DType::kF16, DType::kF32};
  const auto* found = std::ranges::find(kFormats, dtype);
  check(found != kFormats.end(), "a multiply by heads takes real weights or FP8");
  return static_cast<size_t>(found - kFormats.begin());
}

/// Columns [begin, end) whose scales are the same for a row of w.
int64_t same_scales_until(const QuantMatrixView& w, int64_t row, int64_t col) {
  if (w.scale_kind != ScaleKind::kGrid) return w.cols;
  const ScalePart& part = w.part_of(row);
  return std::min(w.cols, ((col + part.col_phase) / part.block_cols + 1) * part.block_cols - part.col_phase);
}

/// y += x times rows [begin, begin + count) of w, one element after another: for layouts and codes that the
/// kernels do not take.
void multiply_elements(std::span<const float> x, const QuantMatrixView& w, int64_t begin, float* y) {
  visit_float(w.dtype, [&]<class T>() {
    for (size_t n = 0; n < x.size(); ++n) {
      const int64_t row = begin + static_cast<int64_t>(n);
      for (int64_t k = 0; k < w.cols; ++k) {
        T element;
        std::memcpy(&element, w.element(row, k), sizeof element);
        y[k] += x[n] * (w.scale(row, k) * to_float(element));
      }
    }
  });
}

}  // namespace

void CpuBackend::gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  multiply_.run(x, w, bias, y);
}

void CpuBackend::gemm_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w,
                              ConstTensorView bias, TensorView y) {
  multiply_.run_dynamic(x, precision, w, bias, y);
}

void CpuBackend::grouped_gemm(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) {
  multiply_.run_groups(x, groups, y);
}

void CpuBackend::gemm_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y) {
  multiply_.run_heads(x, precision, heads, y);
}

void CpuBackend::gemm_heads_transposed(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                                       TensorView y) {
  const QuantMatrixView& w = heads.w;
  check(x.dtype() == DType::kF32 && y.dtype() == DType::kF32 && x.rows() == y.rows(),
        "gemm_heads_transposed takes and gives float32");
  check(heads.heads > 0 && heads.first >= 0 && heads.first + heads.count <= heads.stride &&
            heads.heads * heads.stride <= w.rows && heads.x_stride >= heads.count && heads.y_stride >= w.cols,
        "gemm_heads_transposed: the rows of a head lie outside of the matrix, or its columns overlap");
  check(
      x.rows() == 0 || (x.cols() == heads.heads * heads.x_stride && y.cols() == heads.heads * heads.y_stride),
      "gemm_heads_transposed needs the columns of all heads");
  const int64_t parts = ceil_div(x.rows(), kTokensOfTask);
  threads_.parallel_for(heads.heads * parts, [&](int64_t index, int) {
    const int64_t head = index / parts;
    const int64_t end = std::min(x.rows(), (index % parts + 1) * kTokensOfTask);
    for (int64_t t = index % parts * kTokensOfTask; t < end; ++t)
      multiply_head_transposed({x.row<float>(t) + head * heads.x_stride, static_cast<size_t>(heads.count)},
                               precision, w, head * heads.stride + heads.first,
                               y.row<float>(t) + head * heads.y_stride);
  });
}

/// One token and one head, whose rows of w begin at `begin`: panel by panel, and within a panel for each run
/// of columns that one row of scales covers.
void CpuBackend::multiply_head_transposed(std::span<const float> x, Precision precision,
                                          const QuantMatrixView& w, int64_t begin, float* y) const {
  constexpr size_t kMostRows = 1024;  // rounded at a time
  std::fill_n(y, w.cols, 0.0F);
  std::array<float, kMostRows> rounded;
  for (size_t at = 0; at < x.size(); at += kMostRows) {
    const auto some = x.subspan(at, std::min(kMostRows, x.size() - at));
    std::ranges::transform(some, rounded.begin(), [&](float value) {
      return precision == Precision::kBFloat16 ? round_to_bfloat16(value) : value;
    });
    const std::span<const float> values(rounded.data(), some.size());
    const int64_t row = begin + static_cast<int64_t>(at);
    if (w.layout == MatrixLayout::kLanes64 && multiply_panels_transposed(values, w, row, y)) continue;
    // Sums of the panels before must not be lost: the whole head anew.
    std::fill_n(y, w.cols, 0.0F);
    for (size_t again = 0; again < x.size(); ++again) {
      const float value = precision == Precision::kBFloat16 ? round_to_bfloat16(x[again]) : x[again];
      multiply_elements({&value, 1}, w, begin + static_cast<int64_t>(again), y);
    }
    return;
  }
}

/// False where a code without a finite value was seen.
bool CpuBackend::multiply_panels_transposed(std::span<const float> x, const QuantMatrixView& w, int64_t begin,
                                            float* y) const {
  const int64_t end = begin + static_cast<int64_t>(x.size());
  const int64_t panel_bytes = matrix_bytes(w.layout, w.dtype, kPanelRows, w.cols);
  const auto kernel = kernels_.transposed.panel[format_index(w.dtype)];
  for (int64_t first = begin / kPanelRows * kPanelRows; first < end; first += kPanelRows) {
    const int64_t low = std::max(first, begin);
    const int64_t high = std::min(first + kPanelRows, end);
    for (int64_t col = 0; col < w.cols;) {
      std::array<float, kPanelRows> scaled{};
      int64_t stop = w.cols;
      for (int64_t row = low; row < high; ++row) {
        stop = std::min(stop, same_scales_until(w, row, col));
        scaled[static_cast<size_t>(row - first)] = x[static_cast<size_t>(row - begin)] * w.scale(row, col);
      }
      const TransposedRun run = {.panel = w.data + first / kPanelRows * panel_bytes,
                                 .x = scaled.data(),
                                 .begin = col,
                                 .end = stop,
                                 .y = y};
      if (kernel(run)) return false;
      col = stop;
    }
  }
  return true;
}

}  // namespace octet
