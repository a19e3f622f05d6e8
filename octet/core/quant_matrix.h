// SPDX-License-Identifier: Apache-2.0
/// A stored matrix: FP8 (or 16/32-bit) elements, and float32 scales for the elements that share one: x =
/// scale * q. The same type holds weights, vocabulary tables and quantized activations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/core/buffer.h"
#include "octet/core/dtype.h"
#include "octet/core/tensor.h"

namespace octet {

/// How the elements of a matrix lie in memory.
///
///   kRowMajor  element (r, c) at (r * cols + c) elements.
///   kLanes64   panels of 64 rows (the last one padded with zeros). Within a panel, a 32-bit lane holds the
///   next
///              n = 4 / element size columns of one row, the 64 lanes of the panel's rows follow each other,
///              then the next n columns (the last ones padded with zeros). So (r, c) is at byte (r / 64) *
///              ceil(cols / n) * 256 + (c / n) * 256 + (r % 64) * 4 + (c % n) * element size.
enum class MatrixLayout { kRowMajor, kLanes64 };

/// Rows of one panel of kLanes64.
inline constexpr int64_t kPanelRows = 64;

/// Byte offset of element (row, col).
[[nodiscard]] int64_t element_offset(MatrixLayout layout, DType dtype, int64_t cols, int64_t row,
                                     int64_t col);
/// Bytes of all elements, padding included. Throws ArgumentError when that overflows.
[[nodiscard]] int64_t matrix_bytes(MatrixLayout layout, DType dtype, int64_t rows, int64_t cols);

enum class ScaleKind {
  kNone,  ///< no scales: raw cast, or a dtype that needs none
  kRow,   ///< one float32 per row [R] (per channel; per tensor, spread; per token)
  kGrid,  ///< one per block, a grid for each part
};

/// A range of rows with its own grid of scales. A merged matrix (qkv, gate_up) has one part for each of its
/// members, because their grids begin anew at rows that no block size divides; a shard that begins inside a
/// block has a phase. The scale of (r, c) is scales[first_scale + ((r - row_begin + row_phase) / block_rows)
/// * grid_cols + (c + col_phase) / block_cols].
struct ScalePart {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t block_rows = 1;
  int64_t block_cols = 1;
  int64_t row_phase = 0;
  int64_t col_phase = 0;
  int64_t grid_cols = 1;
  int64_t first_scale = 0;

  [[nodiscard]] int64_t index(int64_t row, int64_t col) const {
    return first_scale + (row - row_begin + row_phase) / block_rows * grid_cols +
           (col + col_phase) / block_cols;
  }
  [[nodiscard]] bool operator==(const ScalePart& other) const = default;
};

/// Non-owning; the parts span points into the owner.
struct QuantMatrixView {
  std::byte* data = nullptr;
  DType dtype = DType::kF8E4M3;
  int64_t rows = 0;
  int64_t cols = 0;
  MatrixLayout layout = MatrixLayout::kRowMajor;
  ScaleKind scale_kind = ScaleKind::kNone;
  float* scales = nullptr;                ///< [R] or the grids of all parts, one after another
  std::span<const ScalePart> parts = {};  ///< for kGrid: ascending, covering all rows
  /// No element is NaN or infinite, padding included: a promise, which spares kernels the looking for them.
  bool codes_finite = false;

  [[nodiscard]] std::byte* element(int64_t row, int64_t col) const {
    return data + element_offset(layout, dtype, cols, row, col);
  }
  /// 1 where there are no scales.
  [[nodiscard]] float scale(int64_t row, int64_t col) const;
  [[nodiscard]] const ScalePart& part_of(int64_t row) const;
};

/// What a matrix is to be, before its memory exists.
struct MatrixSpec {
  DType dtype = DType::kF8E4M3;
  int64_t rows = 0;
  int64_t cols = 0;
  MatrixLayout layout = MatrixLayout::kRowMajor;
  ScaleKind scale_kind = ScaleKind::kNone;
  std::vector<ScalePart> parts = {};  ///< for kGrid only

  [[nodiscard]] int64_t scale_count() const;
  /// Elements with padding, plus 4 bytes a scale.
  [[nodiscard]] int64_t bytes() const;
  [[nodiscard]] bool operator==(const MatrixSpec& other) const = default;
};

/// Owner. Move-only. Empty until it is given memory.
class QuantMatrix {
 public:
  QuantMatrix() = default;
  /// Takes memory (zero-filled) for `spec`; throws DeviceError when it cannot be had.
  QuantMatrix(Allocator& allocator, MemoryLedger& ledger, std::string_view group, MatrixSpec spec);

  [[nodiscard]] bool empty() const { return data_.data() == nullptr; }
  [[nodiscard]] const MatrixSpec& spec() const { return spec_; }
  [[nodiscard]] int64_t rows() const { return spec_.rows; }
  [[nodiscard]] int64_t cols() const { return spec_.cols; }
  [[nodiscard]] int64_t bytes() const { return data_.bytes() + scales_.bytes(); }
  [[nodiscard]] QuantMatrixView view() const;
  /// For who has written every element and seen none that is NaN or infinite; views taken from now on say so.
  void set_codes_finite(bool finite = true) { codes_finite_ = finite; }

 private:
  MatrixSpec spec_;
  bool codes_finite_ = false;
  Buffer data_;
  Buffer scales_;
};

/// Appends to `parts` the grid of one member of a merged matrix: rows [row_begin, row_begin + rows) x cols in
/// blocks.
void append_scale_part(std::vector<ScalePart>& parts, int64_t rows, int64_t cols, int64_t block_rows,
                       int64_t block_cols);
/// The same for a shard, whose first row and column may lie inside a block: of `grid` the blocks and phases
/// are taken.
void append_scale_part(std::vector<ScalePart>& parts, int64_t rows, int64_t cols, const ScalePart& grid);

}  // namespace octet
