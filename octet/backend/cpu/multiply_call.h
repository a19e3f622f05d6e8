// SPDX-License-Identifier: Apache-2.0
/// What the files of CpuMultiply share: one call prepared, and the sizes in which work is handed out.
#pragma once

#include "octet/backend/cpu/multiply.h"

namespace octet {

/// Products below which waking the other threads costs more than they bring.
inline constexpr int64_t kSmallWork = int64_t{1} << 16;
/// Weights that a thread should take in a row, for the sake of the memory's own prefetching.
inline constexpr int64_t kTaskBytes = int64_t{256} << 10;

[[nodiscard]] inline bool same_columns(const ScalePart& a, const ScalePart& b) {
  return a.block_cols == b.block_cols && a.col_phase == b.col_phase;
}

/// The contract of Backend::gemm.
void check_multiply(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y);

/// What stays the same for all tokens of one call, and for the columns that one kind of grid cuts.
struct CpuMultiply::Call {
  Activations x;  // where `dynamic`, only its precision counts
  const QuantMatrixView& w;
  ConstTensorView bias;
  TensorView y;
  WeightFormat format = WeightFormat::kF32;
  bool pairs = false;  // cells of two bfloat16
  int64_t lane_columns = 1;
  int64_t lane_cells = 1;
  PackedRows packing = {};
  const ScalePart* grid = nullptr;  // the columns are cut as this part's
  int64_t row_cells = 0;            // of a packed row
  int64_t x_stride = 0;             // of packed rows, in cells
  PanelKernel kernel = nullptr;
  IndexRange rows = {};  // of w, only these
  bool dynamic = false;  // `rows_of_x` become FP8 when they are packed
  ConstTensorView rows_of_x = {};
  bool each_packs = false;  // each thread packs all tokens for itself
  bool tiled = false;       // packed rows lie in tiles, see PackedRows

  [[nodiscard]] const ScalePart* x_grid() const {
    return x.quantized && x.quantized->scale_kind == ScaleKind::kGrid ? &x.quantized->parts[0] : nullptr;
  }
};

}  // namespace octet
