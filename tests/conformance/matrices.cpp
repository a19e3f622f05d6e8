// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/matrices.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "octet/base/checked_math.h"

namespace octet::conformance {
namespace {

/// Two parts: the first begins 5 rows inside a block, the second 37 columns inside one, with smaller blocks.
std::vector<ScalePart> merged_parts(int64_t rows, int64_t cols) {
  const int64_t split = rows == 1 ? 1 : rows / 3 + 1;
  ScalePart first{.row_begin = 0,
                  .row_end = split,
                  .block_rows = 128,
                  .block_cols = 128,
                  .row_phase = 5,
                  .col_phase = 0,
                  .grid_cols = ceil_div(cols, 128),
                  .first_scale = 0};
  if (rows == 1) return {first};
  const int64_t used = ceil_div(split + first.row_phase, 128) * first.grid_cols;
  const ScalePart second{.row_begin = split,
                         .row_end = rows,
                         .block_rows = 32,
                         .block_cols = 64,
                         .row_phase = 0,
                         .col_phase = 37,
                         .grid_cols = ceil_div(cols + 37, 64),
                         .first_scale = used};
  return {first, second};
}

std::string_view to_string(Scales scales) {
  switch (scales) {
    case Scales::kNone:
      return "no scales";
    case Scales::kRow:
      return "row scales";
    case Scales::kGrid:
      return "a grid";
    case Scales::kParts:
      return "grids of parts";
    case Scales::kFine:
      return "a fine grid";
    case Scales::kCoarse:
      return "a coarse grid";
  }
  return "";
}

/// A random finite code.
std::byte random_code(DType dtype, Random& random) {
  const uint64_t largest = dtype == DType::kF8E4M3 ? 0x7e : 0x7b;
  for (;;) {
    const uint64_t code = random.next() >> 56;
    if ((code & 0x7f) <= largest) return static_cast<std::byte>(code);
  }
}

}  // namespace

std::string to_string(const WeightKind& kind) {
  return std::string(octet::to_string(kind.dtype)) + " with " + std::string(to_string(kind.scales));
}

MatrixSpec weight_spec(const WeightKind& kind, int64_t rows, int64_t cols, MatrixLayout layout) {
  MatrixSpec spec{.dtype = kind.dtype,
                  .rows = rows,
                  .cols = cols,
                  .layout = layout,
                  .scale_kind = ScaleKind::kNone,
                  .parts = {}};
  if (kind.scales == Scales::kRow) spec.scale_kind = ScaleKind::kRow;
  if (kind.scales != Scales::kNone && kind.scales != Scales::kRow) spec.scale_kind = ScaleKind::kGrid;
  if (kind.scales == Scales::kGrid) append_scale_part(spec.parts, rows, cols, 128, 128);
  if (kind.scales == Scales::kFine) append_scale_part(spec.parts, rows, cols, 64, 16);
  if (kind.scales == Scales::kCoarse) append_scale_part(spec.parts, rows, cols, 128, 320);
  if (kind.scales == Scales::kParts) spec.parts = merged_parts(rows, cols);
  return spec;
}

MatrixSpec activation_spec(DType dtype, int64_t rows, int64_t cols, int64_t group) {
  MatrixSpec spec{.dtype = dtype,
                  .rows = rows,
                  .cols = cols,
                  .layout = MatrixLayout::kRowMajor,
                  .scale_kind = group == 0 ? ScaleKind::kRow : ScaleKind::kGrid,
                  .parts = {}};
  if (group > 0) append_scale_part(spec.parts, rows, cols, 1, group);
  return spec;
}

QuantMatrix make_matrix(Memory& memory, MatrixSpec spec) {
  return {memory.allocator, memory.ledger, "test", std::move(spec)};
}

void randomize(const QuantMatrix& matrix, Random& random) {
  const QuantMatrixView view = matrix.view();
  for (int64_t r = 0; r < view.rows; ++r) {
    for (int64_t c = 0; c < view.cols; ++c) {
      if (is_fp8(view.dtype)) {
        *view.element(r, c) = random_code(view.dtype, random);
      } else {
        save_element(random.bell(), view.element(r, c), view.dtype);
      }
    }
  }
  for (int64_t i = 0; i < matrix.spec().scale_count(); ++i) view.scales[i] = random.uniform(0x1p-6F, 0x1p-4F);
}

void copy_elements(const QuantMatrix& from, const QuantMatrix& into) {
  const QuantMatrixView a = from.view();
  const QuantMatrixView b = into.view();
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.cols; ++c) {
      std::memcpy(b.element(r, c), a.element(r, c), static_cast<size_t>(dtype_size(a.dtype)));
    }
  }
  std::copy_n(a.scales, from.spec().scale_count(), b.scales);
}

QuantMatrix copy_matrix(Memory& memory, const QuantMatrix& from) {
  QuantMatrix result = make_matrix(memory, from.spec());
  const QuantMatrixView view = from.view();
  std::copy_n(view.data, matrix_bytes(view.layout, view.dtype, view.rows, view.cols), result.view().data);
  std::copy_n(view.scales, from.spec().scale_count(), result.view().scales);
  return result;
}

QuantMatrix absolute(Memory& memory, const QuantMatrix& from) {
  QuantMatrix result = copy_matrix(memory, from);
  const QuantMatrixView view = result.view();
  const int64_t size = dtype_size(view.dtype);
  const int64_t bytes = matrix_bytes(view.layout, view.dtype, view.rows, view.cols);
  for (int64_t sign = size - 1; sign < bytes; sign += size) view.data[sign] &= std::byte{0x7f};
  for (int64_t i = 0; i < result.spec().scale_count(); ++i) view.scales[i] = std::fabs(view.scales[i]);
  return result;
}

}  // namespace octet::conformance
