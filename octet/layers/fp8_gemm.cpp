// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_gemm.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>

#include "octet/base/checked_math.h"
#include "octet/quant/scales.h"

namespace octet {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);
constexpr int64_t kAlignment = 64;
/// Elements below which waking the other threads costs more than they bring, or may: on borrowed threads
/// every loop waits for the last of them, which may be without a core.
constexpr int64_t kSmallCopy = int64_t{1} << 16;

/// Of the row in float32 that each thread has.
int64_t wide_row_bytes(int64_t cols) {
  return round_up(cols * kFloatBytes, kAlignment);
}

/// A matrix without scales over dense rows, for the operations that convert.
QuantMatrixView plain(TensorView rows) {
  return {.data = rows.data(), .dtype = rows.dtype(), .rows = rows.rows(), .cols = rows.cols()};
}

/// Calls body(begin, end, worker) for rows, on the threads where there is enough to do.
template <class Body>
void for_rows(ThreadPool& threads, int64_t rows, bool alone, Body&& body) {
  if (threads.threads() == 1 || alone) {
    body(0, rows, 0);
    return;
  }
  const int64_t pieces = std::min<int64_t>(rows, 4 * threads.threads());
  threads.parallel_for(
      pieces, [&](int64_t i, int worker) { body(rows * i / pieces, rows * (i + 1) / pieces, worker); });
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

/// x [1, K] in float32: itself, or in the memory at `into`.
ConstTensorView widened(Backend& backend, ConstTensorView x, float* into) {
  if (x.dtype() == DType::kF32) return x;
  // The operation only reads the matrix that it is given.
  auto* data = const_cast<std::byte*>(x.row<std::byte>(0));
  const TensorView result = view_of(into, Shape{1, x.cols()});
  backend.read_rows(plain({data, x.dtype(), Shape{1, x.cols()}}), 0, result);
  return result;
}

/// 16-bit activations are what they are; others are rounded to bfloat16.
Precision precision_of(ConstTensorView x) {
  return x.dtype() == DType::kF32 ? Precision::kBFloat16 : Precision::kFloat32;
}

/// Codes have no place for a NaN among the values of a row, so it is put into the row's scale.
bool all_finite(Backend& backend, ConstTensorView row) {
  float amax = 0;
  return backend.abs_max(row, row.cols(), row.cols(), view_of(&amax, Shape{1, 1})) == 0;
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

void Fp8Gemm::run(ConstTensorView x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  check(is_real(x.dtype()) && is_real(y.dtype()), "Fp8Gemm takes and gives F32, F16 or BF16");
  check(is_fp8(w.dtype) && w.scale_kind == ScaleKind::kRow, "Fp8Gemm takes FP8 with one scale for each row");
  check(x.shape().rank() == 2 && y.shape().rank() == 2 && x.shape()[0] == y.shape()[0] &&
            x.shape()[1] == w.cols && y.shape()[1] == w.rows,
        "Fp8Gemm: the shapes of x, w and y do not fit");
  const int64_t tokens = x.shape()[0];
  if (tokens == 0 || w.rows == 0) return;
  const int64_t row_bytes = w.cols + (w.rows + 1) * kFloatBytes;
  const int64_t step = std::clamp<int64_t>(kFp8GemmScratch / row_bytes, 1, tokens);
  for (int64_t begin = 0; begin < tokens; begin += step) {
    const int64_t end = std::min(begin + step, tokens);
    run_rows(x.slice_rows(begin, end), w, bias, y.slice_rows(begin, end));
  }
}

void Fp8Gemm::run_rows(ConstTensorView x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  const int64_t tokens = x.shape()[0];
  const bool narrow = y.dtype() != DType::kF32;
  const int64_t wide_bytes =
      x.dtype() == DType::kF32 ? 0 : backend_.threads().threads() * wide_row_bytes(w.cols);
  const int64_t sum_bytes = narrow ? round_up(tokens * w.rows * kFloatBytes, kAlignment) : 0;
  const int64_t scale_bytes = round_up(tokens * kFloatBytes, kAlignment);
  std::byte* memory = scratch(wide_bytes + sum_bytes + scale_bytes + tokens * w.cols);

  const TensorView sums =
      narrow ? TensorView(memory + wide_bytes, DType::kF32, Shape{tokens, w.rows}) : y;  // [T, N] float32
  const QuantMatrixView codes{.data = memory + wide_bytes + sum_bytes + scale_bytes,
                              .dtype = DType::kF8E4M3,
                              .rows = tokens,
                              .cols = w.cols,
                              .layout = MatrixLayout::kRowMajor,
                              .scale_kind = ScaleKind::kRow,
                              .scales = reinterpret_cast<float*>(memory + wide_bytes + sum_bytes)};
  quantize_rows(x, memory, codes);
  backend_.gemm({.dense = {}, .precision = precision_of(x), .quantized = codes}, w, bias, sums);
  if (!narrow) return;
  const bool few = tokens * w.rows < kSmallCopy;
  for_rows(backend_.threads(), tokens, few, [&](int64_t begin, int64_t end, int) {
    backend_.store(sums.slice_rows(begin, end), plain(y), {.row = begin, .col = 0});
  });
}

/// Each row in one go, while a near cache has it.
void Fp8Gemm::quantize_rows(ConstTensorView x, std::byte* wide, const QuantMatrixView& codes) {
  const bool few = codes.rows * codes.cols < kSmallCopy;
  for_rows(backend_.threads(), codes.rows, few, [&](int64_t begin, int64_t end, int worker) {
    auto* floats = reinterpret_cast<float*>(wide + worker * wide_row_bytes(codes.cols));
    for (int64_t t = begin; t < end; ++t) {
      const ConstTensorView values = x.slice_rows(t, t + 1);
      QuantMatrixView row = codes;
      row.data += t * codes.cols;
      row.rows = 1;
      row.scales += t;
      backend_.quantize_activations(widened(backend_, values, floats), precision_of(x), std::nullopt, row);
      if (!all_finite(backend_, values)) *row.scales = std::numeric_limits<float>::quiet_NaN();
    }
  });
}

std::byte* Fp8Gemm::scratch(int64_t bytes) {
  if (scratch_.bytes() < bytes) {
    scratch_.reset();
    scratch_ = Buffer(backend_.allocator(), backend_.ledger(), "workspace", bytes);
  }
  return scratch_.data();
}

}  // namespace octet
