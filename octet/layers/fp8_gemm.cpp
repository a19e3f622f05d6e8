// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_gemm.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>

#include "octet/base/checked_math.h"
#include "octet/quant/scales.h"

namespace octet {
namespace {

/// A matrix without scales over dense rows, for the operations that convert.
QuantMatrixView plain(TensorView rows) {
  return {.data = rows.data(), .dtype = rows.dtype(), .rows = rows.rows(), .cols = rows.cols()};
}

/// Panels of the source in bfloat16: as they lie, or rounded into a buffer of the thread.
class Bfloat16Panels {
 public:
  Bfloat16Panels(Backend& backend, ConstTensorView source) : backend_(backend), source_(source) {
    if (source.dtype() == DType::kBF16) return;
    const int64_t bytes = kPanelRows * dtype_size(DType::kBF16) * source.cols();
    for (int i = 0; i < backend.threads().threads(); ++i) {
      buffers_.emplace_back(backend.allocator(), backend.ledger(), "loading", bytes);
    }
  }

  [[nodiscard]] int64_t count() const { return ceil_div(source_.rows(), kPanelRows); }
  [[nodiscard]] ConstTensorView panel(int64_t index, int worker) const {
    const int64_t begin = index * kPanelRows;
    const ConstTensorView rows = source_.slice_rows(begin, std::min(begin + kPanelRows, source_.rows()));
    if (source_.dtype() == DType::kBF16) return rows;
    const TensorView rounded(buffers_[static_cast<size_t>(worker)].data(), DType::kBF16,
                             Shape{rows.rows(), rows.cols()});
    backend_.store(rows, plain(rounded), {});
    return rounded;
  }

 private:
  Backend& backend_;
  ConstTensorView source_;
  std::vector<Buffer> buffers_;  // one for each thread; none for a bfloat16 source
};

void check_weight(ConstTensorView source, const QuantMatrixView& w) {
  check(is_real(source.dtype()), "quantize_fp8_weight takes F32, F16 or BF16");
  check(source.shape().rank() == 2 && source.rows() == w.rows && source.cols() == w.cols,
        "quantize_fp8_weight keeps the shape");
  check(w.dtype == DType::kF8E4M3 && w.scale_kind == ScaleKind::kRow,
        "quantize_fp8_weight gives E4M3 with one scale for each row");
}

/// The largest |value| of each row into `amax` [N]; returns the number of values that are not finite.
int64_t row_maxima(Backend& backend, const Bfloat16Panels& panels, float* amax) {
  std::atomic<int64_t> not_finite = 0;
  backend.threads().parallel_for(panels.count(), [&](int64_t index, int worker) {
    const ConstTensorView rows = panels.panel(index, worker);
    const TensorView result = view_of(amax + index * kPanelRows, Shape{rows.rows(), 1});
    not_finite += backend.abs_max(rows, rows.cols(), rows.cols(), result);
  });
  return not_finite;
}

/// A scale so small that its reciprocal overflows takes the division instead: 0 * inf would be no number.
QuantizeRule rule_for(Fp8WeightScale granularity, float scale) {
  using Quotient = QuantizeRule::Quotient;
  const bool reciprocal = granularity == Fp8WeightScale::kTensor && std::isfinite(1.0F / scale);
  return {.quotient = reciprocal ? Quotient::kReciprocal : Quotient::kDivide, .nan_saturates = false};
}

}  // namespace

int64_t count_not_finite(Backend& backend, ConstTensorView source) {
  if (source.empty()) return 0;
  std::vector<float> amax(static_cast<size_t>(source.rows()));  // [N]
  return row_maxima(backend, Bfloat16Panels(backend, source), amax.data());
}

void quantize_fp8_weight(Backend& backend, ConstTensorView source, Fp8WeightScale granularity,
                         const QuantMatrixView& w) {
  check_weight(source, w);
  if (source.empty()) return;
  const Bfloat16Panels panels(backend, source);
  std::vector<float> amax(static_cast<size_t>(w.rows));  // [N]
  if (const int64_t count = row_maxima(backend, panels, amax.data()); count > 0) {
    throw ArgumentError(
        "the weight has " + std::to_string(count) +
        " values that are NaN or infinite; FP8 has no scale for them: mend the weight, or leave "
        "this layer out");
  }
  const bool whole = granularity == Fp8WeightScale::kTensor;
  if (whole) std::ranges::fill(amax, *std::ranges::max_element(amax));
  const ScaleRule scale{.numerics = NumericsProfile::kVllm,
                        .granularity = whole ? Granularity::kTensor : Granularity::kChannel,
                        .format = DType::kF8E4M3,
                        .source = DType::kBF16};
  std::ranges::transform(amax, w.scales, [&](float value) { return scale_from_amax(value, scale); });
  if (whole && w.scales[0] == 0.0F) return;  // all codes are zero already
  const QuantizeRule rule = rule_for(granularity, w.scales[0]);
  backend.threads().parallel_for(panels.count(), [&](int64_t index, int worker) {
    backend.quantize(panels.panel(index, worker), w, {.row = index * kPanelRows, .col = 0}, rule, nullptr);
  });
}

void fp8_gemm(Backend& backend, ConstTensorView x, const QuantMatrixView& w, ConstTensorView bias,
              TensorView y) {
  // 16-bit activations are what they are; others are rounded to bfloat16.
  const bool wide = x.dtype() == DType::kF32;
  backend.gemm_dynamic(x, wide ? Precision::kBFloat16 : Precision::kFloat32, w, bias, y);
}

}  // namespace octet
