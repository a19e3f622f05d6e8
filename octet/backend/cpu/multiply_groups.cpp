// SPDX-License-Identifier: Apache-2.0
// Many multiplies as one loop: the experts that have tokens, and the heads of a matrix.
#include <algorithm>

#include "octet/backend/cpu/multiply_call.h"
#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

bool one_kind_of_columns(const QuantMatrixView& w, const ScalePart& as) {
  return std::ranges::all_of(w.parts, [&](const ScalePart& part) { return same_columns(part, as); });
}

/// One plan of the columns serves all rows of both.
bool stored_alike(const QuantMatrixView& a, const QuantMatrixView& b) {
  if (a.dtype != b.dtype || a.rows != b.rows || a.cols != b.cols || a.layout != b.layout) return false;
  if (a.scale_kind != b.scale_kind) return false;
  if (a.scale_kind != ScaleKind::kGrid) return true;
  return one_kind_of_columns(a, a.parts[0]) && one_kind_of_columns(b, a.parts[0]);
}

}  // namespace

void CpuMultiply::run_groups(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) {
  for (const MatrixGroup& group : groups) {
    check(group.begin >= 0 && group.begin < group.end && group.end <= y.rows(),
          "grouped_gemm: a group has at least one row, and rows of y only");
  }
  for (size_t first = 0; first < groups.size();) {
    size_t last = first + 1;
    while (last < groups.size() && stored_alike(groups[first].w, groups[last].w)) ++last;
    if (last - first > 1) {
      run_alike(x, groups.subspan(first, last - first), y);
    } else {
      const MatrixGroup& only = groups[first];
      run(activation_rows(x, only.begin, only.end), only.w, {}, y.slice_rows(only.begin, only.end));
    }
    first = last;
  }
}

/// Packs as many rows as the workspace takes, whatever their matrices, and multiplies them, until all are
/// done.
void CpuMultiply::run_alike(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) {
  const QuantMatrixView& w = groups.front().w;
  check_multiply(x, w, {}, y);
  if (w.rows == 0) return;
  Call call = {.x = x, .w = w, .bias = {}, .y = y};
  const int64_t fitting = prepare(call);
  int64_t packed = 0;
  for (const MatrixGroup& group : groups) {
    for (int64_t row = group.begin; row < group.end;) {
      const int64_t slot = first_slot(call, packed, std::min(group.end - row, fitting - packed));
      const int64_t end = std::min(group.end, row + fitting - slot);
      if (end > row) {
        pieces_.push_back({.w = &group.w, .rows = {0, w.rows}, .tokens = {row, end}, .slot = slot});
        packed = first_slot(call, slot + end - row, end - row);
        row = end;
        if (packed < fitting) continue;
      }
      run_pieces(call);
      packed = 0;
    }
  }
  run_pieces(call);
}

void CpuMultiply::run_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y) {
  const QuantMatrixView& w = heads.w;
  check(x.dtype() == DType::kF32 && y.dtype() == DType::kF32 && x.rows() == y.rows(),
        "gemm_heads takes and gives float32");
  check(heads.heads > 0 && heads.first >= 0 && heads.first + heads.count <= heads.stride &&
            heads.heads * heads.stride <= w.rows && heads.x_stride >= w.cols && heads.y_stride >= heads.count,
        "gemm_heads: the rows of a head lie outside of the matrix, or its columns overlap");
  check(
      x.rows() == 0 || (x.cols() == heads.heads * heads.x_stride && y.cols() == heads.heads * heads.y_stride),
      "gemm_heads needs the columns of all heads");
  check(w.scale_kind != ScaleKind::kGrid || one_kind_of_columns(w, w.parts[0]),
        "gemm_heads takes one grid of scales");
  if (x.rows() == 0 || heads.count == 0) return;
  Call call = {.x = {.dense = x, .precision = precision, .quantized = {}}, .w = w, .bias = {}, .y = y};
  const int64_t fitting = prepare(call);
  const int64_t at_a_time = std::max<int64_t>(1, fitting / heads.heads);
  for (int64_t first = 0; first < x.rows(); first += at_a_time) {
    const IndexRange tokens = {first, std::min(first + at_a_time, x.rows())};
    int64_t packed = 0;
    for (int64_t h = 0; h < heads.heads; ++h) {
      const int64_t row = h * heads.stride + heads.first;
      pieces_.push_back({.w = &w,
                         .rows = {row, row + heads.count},
                         .tokens = tokens,
                         .slot = packed,
                         .x_col = h * heads.x_stride,
                         .y_col = h * heads.y_stride});
      packed = first_slot(call, packed + tokens.end - tokens.begin, tokens.end - tokens.begin);
      if (packed + tokens.end - tokens.begin <= fitting) continue;
      run_pieces(call);
      packed = 0;
    }
    run_pieces(call);
  }
}

/// Where a piece of so many tokens begins, or what follows it, in the workspace from row `slot` on.
int64_t CpuMultiply::first_slot(const Call& call, int64_t slot, int64_t tokens) {
  return call.packing.tiles(tokens) ? round_up(slot, call.packing.tile_rows) : slot;
}

/// Plans the columns and returns how many rows the workspace takes.
int64_t CpuMultiply::prepare(Call& call) {
  choose_kernel(call);
  plan_columns(call, call.w.scale_kind == ScaleKind::kGrid ? &call.w.parts[0] : nullptr);
  pieces_.clear();
  return fitting_rows(call);
}

/// The call of one piece: its matrix, its columns of x and y.
CpuMultiply::Call CpuMultiply::call_of(const Call& call, const GroupPiece& piece) {
  Call own = {.x = call.x,
              .w = *piece.w,
              .bias = {},
              .y = call.y,
              .format = call.format,
              .pairs = call.pairs,
              .lane_columns = call.lane_columns,
              .lane_cells = call.lane_cells,
              .packing = call.packing,
              .grid = call.grid,
              .row_cells = call.row_cells,
              .x_stride = call.x_stride,
              .kernel = call.kernel,
              .rows = piece.rows,
              .tiled = call.packing.tiles(piece.tokens.end - piece.tokens.begin)};
  if (!own.x.quantized) own.x.dense = columns_of(call.x.dense, piece.x_col, piece.w->cols);
  own.y = columns_of(call.y, piece.y_col - piece.rows.begin, piece.w->rows);
  return own;
}

void CpuMultiply::run_pieces(const Call& call) {
  if (pieces_.empty()) return;
  const auto pieces = static_cast<int64_t>(pieces_.size());
  const auto piece_at = [&](int64_t i) -> const GroupPiece& { return pieces_[static_cast<size_t>(i)]; };
  int64_t tokens = 0;
  int64_t panels = 0;  // the most of any piece
  for (const GroupPiece& piece : pieces_) {
    tokens += piece.tokens.end - piece.tokens.begin;
    panels = std::max(panels, ceil_div(piece.rows.end, kPanelRows) - piece.rows.begin / kPanelRows);
  }
  const auto pack = [&](int64_t i, int worker) {
    const GroupPiece& piece = piece_at(i);
    const Call own = call_of(call, piece);
    for (int64_t t = piece.tokens.begin; t < piece.tokens.end; ++t)
      pack_row(own, t, piece.slot + t - piece.tokens.begin, worker);
  };
  const int64_t panel_bytes = std::max<int64_t>(1, ceil_div(call.w.cols, call.lane_columns) * kCellBytes);
  const int64_t step = std::clamp<int64_t>(kTaskBytes / panel_bytes, 1, panels);
  const int64_t steps = ceil_div(panels, step);
  const auto work = [&](int64_t index, int worker) {
    const GroupPiece& piece = piece_at(index / steps);
    const Call own = call_of(call, piece);
    const PanelTask task = task_for(own, piece.tokens, piece.slot, worker);
    const int64_t first = piece.rows.begin / kPanelRows + index % steps * step;
    const int64_t last = std::min(first + step, ceil_div(piece.rows.end, kPanelRows));
    for (int64_t p = first; p < last; ++p) run_panel(own, p, piece.tokens, task);
  };
  const auto for_each = [&](int64_t count, int64_t products, const auto& body) {
    if (products >= kSmallWork) return machine_.threads.parallel_for(count, body);
    for (int64_t i = 0; i < count; ++i) body(i, 0);
  };
  for_each(pieces, tokens * call.w.cols, pack);
  for_each(pieces * steps, tokens * panels * kPanelRows * call.w.cols, work);
  pieces_.clear();
}

}  // namespace octet
