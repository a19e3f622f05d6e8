// SPDX-License-Identifier: Apache-2.0
// The multiply of rows that become FP8 on the way: each goes from where it lies straight into the cells that
// the kernels read, and each output is rounded as it leaves them.
#include <algorithm>
#include <cstring>

#include "octet/backend/cpu/multiply_call.h"
#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/core/float8.h"

namespace octet {
namespace {

bool one_scale_per_row(const QuantMatrixView& w) {
  if (w.scale_kind != ScaleKind::kGrid) return w.scale_kind == ScaleKind::kRow;
  return std::ranges::all_of(w.parts, [](const ScalePart& part) { return part.grid_cols == 1; });
}

void check_dynamic(ConstTensorView x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  check(is_real(x.dtype()) && is_real(y.dtype()), "gemm_dynamic takes and gives F32, F16 or BF16");
  check(w.dtype == DType::kF8E4M3 && one_scale_per_row(w),
        "gemm_dynamic takes E4M3 with one scale for each row");
  check(x.shape().rank() == 2 && y.shape().rank() == 2 && x.shape()[0] == y.shape()[0],
        "gemm_dynamic gives one row for each row of activations");
  check(x.shape()[1] == w.cols, "gemm_dynamic: x and w differ in K");
  check(y.shape()[1] == w.rows, "gemm_dynamic: y and w differ in N");
  check(bias.empty() || (bias.cols() == w.rows && is_real(bias.dtype())),
        "gemm_dynamic: bias and w differ in N");
}

}  // namespace

void CpuMultiply::run_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w,
                              ConstTensorView bias, TensorView y) {
  check_dynamic(x, w, bias, y);
  const int64_t tokens = x.shape()[0];
  if (tokens == 0 || w.rows == 0) return;
  Call call = {.x = {.dense = {}, .precision = precision, .quantized = {}},
               .w = w,
               .bias = bias,
               .y = y,
               .rows = {.begin = 0, .end = w.rows},
               .dynamic = true,
               .rows_of_x = x};
  choose_kernel(call);
  plan_columns(call, nullptr);
  run_passes(call, tokens);
}

void CpuMultiply::quantize_row(const Call& call, int64_t token, int64_t slot, float multiplier,
                               std::byte* row) {
  const PackRun run = pack_runs_.empty() ? PackRun{} : pack_runs_.front();
  if (run.cells > 0) clear_end(call, run, row);
  scales_[static_cast<size_t>(slot)] =
      machine_.elementwise.quantize_cells({.x = call.rows_of_x.row<std::byte>(token),
                                           .from = call.rows_of_x.dtype(),
                                           .count = call.w.cols,
                                           .round_to_bfloat16 = call.x.precision == Precision::kBFloat16,
                                           .scale_floor = kSmallestScale,
                                           .multiplier = multiplier,
                                           .pairs = call.pairs,
                                           .cells = row});
}

}  // namespace octet
