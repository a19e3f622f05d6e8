// SPDX-License-Identifier: Apache-2.0
#include "octet/core/quant_matrix.h"

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kLaneBytes = 4;
constexpr int64_t kGroupBytes =
    kPanelRows * kLaneBytes;  // the lanes of all rows of a panel for the same columns

int64_t grid_scales(const ScalePart& part) {
  if (part.row_end == part.row_begin) return 0;  // whatever its phase
  return ceil_div(part.row_end - part.row_begin + part.row_phase, part.block_rows) * part.grid_cols;
}

}  // namespace

int64_t element_offset(MatrixLayout layout, DType dtype, int64_t cols, int64_t row, int64_t col) {
  const int64_t size = dtype_size(dtype);
  if (layout == MatrixLayout::kRowMajor) return (row * cols + col) * size;
  const int64_t per_lane = kLaneBytes / size;
  return (row / kPanelRows) * ceil_div(cols, per_lane) * kGroupBytes + (col / per_lane) * kGroupBytes +
         (row % kPanelRows) * kLaneBytes + (col % per_lane) * size;
}

int64_t matrix_bytes(MatrixLayout layout, DType dtype, int64_t rows, int64_t cols) {
  constexpr int64_t kMost = INT64_MAX - kGroupBytes;  // so that rounding up to whole panels cannot overflow
  check(rows >= 0 && cols >= 0 && rows <= kMost && cols <= kMost, "the bytes of a matrix overflow");
  const int64_t size = dtype_size(dtype);
  const bool lanes = layout == MatrixLayout::kLanes64;
  const auto elements = checked_mul(lanes ? round_up(rows, kPanelRows) : rows,
                                    lanes ? round_up(cols, kLaneBytes / size) : cols);
  const auto bytes = elements ? checked_mul(*elements, size) : std::nullopt;
  if (!bytes) throw ArgumentError("the bytes of a matrix overflow");
  return *bytes;
}

const ScalePart& QuantMatrixView::part_of(int64_t row) const {
  for (const ScalePart& part : parts) {
    if (row < part.row_end) return part;
  }
  throw ArgumentError("row " + std::to_string(row) + " lies in no part of the scale grid");
}

float QuantMatrixView::scale(int64_t row, int64_t col) const {
  switch (scale_kind) {
    case ScaleKind::kNone:
      return 1.0F;
    case ScaleKind::kRow:
      return scales[row];
    case ScaleKind::kGrid:
      return scales[part_of(row).index(row, col)];
  }
  return 1.0F;
}

int64_t MatrixSpec::scale_count() const {
  switch (scale_kind) {
    case ScaleKind::kNone:
      return 0;
    case ScaleKind::kRow:
      return rows;
    case ScaleKind::kGrid:
      return parts.empty() ? 0 : parts.back().first_scale + grid_scales(parts.back());
  }
  return 0;
}

int64_t MatrixSpec::bytes() const {
  return matrix_bytes(layout, dtype, rows, cols) + scale_count() * static_cast<int64_t>(sizeof(float));
}

QuantMatrix::QuantMatrix(Allocator& allocator, MemoryLedger& ledger, std::string_view group, MatrixSpec spec)
    : spec_(std::move(spec)),
      data_(allocator, ledger, group, matrix_bytes(spec_.layout, spec_.dtype, spec_.rows, spec_.cols)),
      scales_(allocator, ledger, group, spec_.scale_count() * static_cast<int64_t>(sizeof(float))) {}

QuantMatrixView QuantMatrix::view() const {
  return {.data = data_.data(),
          .dtype = spec_.dtype,
          .rows = spec_.rows,
          .cols = spec_.cols,
          .layout = spec_.layout,
          .scale_kind = spec_.scale_kind,
          .scales = reinterpret_cast<float*>(scales_.data()),
          .parts = spec_.parts,
          .codes_finite = codes_finite_};
}

void append_scale_part(std::vector<ScalePart>& parts, int64_t rows, int64_t cols, int64_t block_rows,
                       int64_t block_cols) {
  append_scale_part(parts, rows, cols, ScalePart{.block_rows = block_rows, .block_cols = block_cols});
}

void append_scale_part(std::vector<ScalePart>& parts, int64_t rows, int64_t cols, const ScalePart& grid) {
  ScalePart part = grid;
  part.row_begin = parts.empty() ? 0 : parts.back().row_end;
  part.row_end = part.row_begin + rows;
  part.grid_cols = ceil_div(cols + part.col_phase, part.block_cols);
  part.first_scale = parts.empty() ? 0 : parts.back().first_scale + grid_scales(parts.back());
  parts.push_back(part);
}

}  // namespace octet
