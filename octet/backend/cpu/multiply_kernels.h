// SPDX-License-Identifier: Apache-2.0
/// The kernels of the multiply y = x * w^T: one panel of 64 rows of w at a time, for any number of tokens.
///
/// Words used here: a *group* is 256 bytes of a panel, the 32-bit lanes of its 64 rows for the next n
/// columns; a *cell* is 4 bytes of a packed row of x, either one float32 or two bfloat16, and what one
/// multiply instruction takes from it; a *segment* is a run of columns with one accumulator for each output
/// (the whole row, or one block of columns).
#pragma once

#include <cstddef>
#include <cstdint>

#include "octet/core/dtype.h"

namespace octet {

/// How the elements of w are stored; the index into the tables of MultiplyKernels. `Finite`: no code is NaN
/// or infinite, so that none has to be looked for.
enum class WeightFormat : int { kE4M3, kE4M3Finite, kE5M2, kE5M2Finite, kBF16, kF16, kF32 };
inline constexpr int kWeightFormats = 7;

/// Most tokens that one call of a panel kernel takes.
inline constexpr int64_t kMaxTokens = 512;
/// Cells that are decoded at a time, and groups that are gathered at a time.
inline constexpr int64_t kChunkCells = 256;
/// The same where tiles multiply many tokens.
inline constexpr int64_t kTileChunkCells = 1024;
/// Segments that are gone over at a time.
inline constexpr int64_t kMaxPieces = 8;
/// Bytes of a group, and of the same columns once decoded to one cell.
inline constexpr int64_t kCellBytes = 256;

struct MultiplySegment {
  int64_t first_group = 0;  ///< of the panel
  int64_t groups =
      0;  ///< those cut by the segment's ends included: x is zero in the columns that are not its own
  int64_t x_cell = 0;   ///< where its columns begin in a packed row of x
  int64_t x_scale = 0;  ///< index of its scale in a row of scales of x
  int64_t w_scale = 0;  ///< index of its scale in a row of the grid of w
};

/// Rows [begin, end) of a panel that share a row of the grid.
struct ScaleRun {
  int32_t begin = 0;
  int32_t end = 0;
  const float* scales = nullptr;  ///< [grid_cols]
};

/// One panel and some tokens. y [t, r] = sum over segments of (sum of products) * factor[t] * scale[r], plus
/// bias[r].
struct PanelTask {
  const std::byte* weights = nullptr;  ///< the first group; row-major: the first row
  int64_t row_bytes = 0;               ///< row-major: bytes of a row; 0 when the panel lies in groups
  int64_t rows = 64;                   ///< row-major: rows that exist
  bool streams = false;  ///< one token: weights are asked for in four places at once (AMX: always)
  const MultiplySegment* segments = nullptr;
  int64_t segment_count = 0;

  const std::byte* x = nullptr;     ///< cells [tokens, x_stride]
  int64_t x_stride = 0;             ///< in cells
  bool tiled = false;               ///< x lies in tiles, see PackedRows
  const float* up = nullptr;        ///< [tokens] powers of two that undo the scaling of x
  const float* x_scales = nullptr;  ///< [tokens, x_scale_stride] or null for none
  int64_t x_scale_stride = 0;
  int64_t tokens = 0;  ///< 1..kMaxTokens

  const float* row_scales = nullptr;  ///< [64], or null: then by runs
  const ScaleRun* runs = nullptr;
  int64_t run_count = 0;
  const float* bias = nullptr;  ///< [64] or null

  float* y = nullptr;  ///< of row 0 of the panel
  int64_t y_stride = 0;
  bool stream_y = false;  ///< all of y is more than caches keep until it is read: it may pass them by
  /// Where not null, each y is rounded once to `narrow_dtype` (F16 or BF16) and goes here instead, by
  /// `narrow`, the `convert` of QuantizeKernels: for a single segment.
  std::byte* narrow_y = nullptr;
  DType narrow_dtype = DType::kBF16;
  void (*narrow)(DType from, const std::byte* x, int64_t count, DType to, std::byte* y) = nullptr;
  int64_t row_begin = 0;  ///< only rows [row_begin, row_end) of the panel are written
  int64_t row_end = 64;

  std::byte* scratch = nullptr;  ///< panel_scratch_bytes(), aligned to 64 bytes
};

/// Bytes of scratch of one panel task: sums and totals [kMaxTokens, 64] each, factors of the tokens
/// [kMaxPieces, kMaxTokens], gathered groups [kChunkCells, 64] and decoded cells [chunk_cells, 64].
constexpr int64_t panel_scratch_bytes(int64_t chunk_cells) {
  return (2 * kMaxTokens + kChunkCells + chunk_cells) * kCellBytes + kMaxPieces * kMaxTokens * 4;
}

/// Returns whether a code without a finite value (NaN, infinity) was seen: then the rows that hold one are
/// wrong.
using PanelKernel = bool (*)(const PanelTask& task);

/// How the kernels of `bf16` want packed rows of x.
struct PackedRows {
  int64_t step_cells = 1;           ///< segments begin at multiples of so many cells, zeros between them
  int64_t beyond = 0;               ///< so many rows behind the last one are read, whatever they hold
  int64_t whole_tokens = 24;        ///< tokens of which no tile is left partly empty
  int64_t block_bytes = INT64_MAX;  ///< what all rows of a pass should fit into: each panel reads them anew
  int64_t spread_lines = 1;         ///< rows begin odd multiples of so many lines apart
  /// Where not 1, more tokens than `whole_tokens` lie in tiles of so many rows: the first step of each row,
  /// the second of each, and so on, [tile, step, row, cell].
  int64_t tile_rows = 1;

  [[nodiscard]] bool tiles(int64_t tokens) const { return tile_rows > 1 && tokens > whole_tokens; }
};

/// The kernels over cells of one float32.
struct FloatPanels {
  PanelKernel panel[kWeightFormats];
  /// Each element of w comes into the multiply times 2^-weight_exponent: x must carry 2^weight_exponent.
  int weight_exponent[kWeightFormats];
};

struct MultiplyKernels {
  FloatPanels f32;
  PanelKernel bf16[kWeightFormats];  ///< over cells of two bfloat16; null where there is none
  /// cells[i] = x[i] * multiplier.
  void (*pack_f32)(const float* x, int64_t count, float multiplier, float* cells);
  /// The same with x rounded to bfloat16 first.
  void (*pack_f32_rounded)(const float* x, int64_t count, float multiplier, float* cells);
  PackedRows bf16_rows = {};
  bool streams = false;               ///< what becomes PanelTask::streams
  int64_t chunk_cells = kChunkCells;  ///< for which a task's scratch has to have room
  /// Null where `bf16` has no kernels.
  void (*pack_bf16)(const float* x, int64_t count, uint16_t* cells);
  /// The largest |x|; NaN may be passed over.
  float (*abs_max)(const float* x, int64_t count);
};

}  // namespace octet
