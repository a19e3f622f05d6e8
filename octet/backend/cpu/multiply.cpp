// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/multiply.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "octet/backend/cpu/multiply_call.h"
#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kPackBytes = int64_t{8} << 20;
/// For fewer tokens a pass over all weights would not be worth it.
constexpr int64_t kFewestOfPass = 128;
/// Up to so many tokens stay together.
constexpr int64_t kTogether = 35;
/// A panel that is cut comes in no more pieces than the end of a loop needs.
constexpr int64_t kPieces = 4;
/// Outputs of so many bytes are not read from a cache again.
constexpr int64_t kStreamedBytes = int64_t{8} << 20;
/// Codes of x that are widened at a time.
constexpr int64_t kPieceColumns = 1024;

WeightFormat format_of(DType dtype, bool codes_finite) {
  switch (dtype) {
    case DType::kF8E4M3:
      return codes_finite ? WeightFormat::kE4M3Finite : WeightFormat::kE4M3;
    case DType::kF8E5M2:
      return codes_finite ? WeightFormat::kE5M2Finite : WeightFormat::kE5M2;
    case DType::kBF16:
      return WeightFormat::kBF16;
    case DType::kF16:
      return WeightFormat::kF16;
    case DType::kF32:
      return WeightFormat::kF32;
    default:
      throw ArgumentError("gemm: weights of " + std::string(to_string(dtype)) + " cannot be multiplied with");
  }
}

/// How far below its value an accumulator is held, in powers of two, so that x * 2^(exponent - down) stays
/// finite.
int down_scaling(float amax) {
  if (amax < 0x1p7F) return 0;
  if (amax < 0x1p17F) return 10;
  return amax < 0x1p67F ? 60 : 120;
}

/// Cells from one packed row to the next: rows a multiple of 4 KiB apart would fall into the same few lines
/// of the first cache.
int64_t spread(int64_t cells, int64_t lines) {
  constexpr int64_t kLineCells = 16;
  const int64_t multiple = cells / (kLineCells * lines) + 1;
  return (multiple + 1 - multiple % 2) * kLineCells * lines;
}

/// The first boundary of a grid after column k, or `cols`.
int64_t next_boundary(const ScalePart* grid, int64_t k, int64_t cols) {
  if (grid == nullptr) return cols;
  const int64_t next = ((k + grid->col_phase) / grid->block_cols + 1) * grid->block_cols - grid->col_phase;
  return std::min(next, cols);
}

}  // namespace

void check_multiply(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  const bool dense = !x.quantized.has_value();
  const int64_t tokens = dense ? x.dense.rows() : x.quantized->rows;
  const int64_t columns = dense ? x.dense.cols() : x.quantized->cols;
  check(!dense || x.dense.dtype() == DType::kF32, "gemm takes float32 or FP8 activations");
  check(dense || (is_fp8(x.quantized->dtype) && x.quantized->layout == MatrixLayout::kRowMajor),
        "quantized activations are row-major FP8");
  check(dense || x.quantized->scale_kind != ScaleKind::kGrid ||
            (x.quantized->parts.size() == 1 && x.quantized->parts[0].block_rows == 1),
        "quantized activations have one scale per row or per run of columns");
  check(y.dtype() == DType::kF32, "gemm gives float32");
  check(tokens == y.rows(), "gemm gives one row for each row of activations");
  check(tokens == 0 || columns == w.cols, "gemm: x and w differ in K");
  check(tokens == 0 || y.cols() == w.rows, "gemm: y and w differ in N");
  check(bias.empty() || (bias.cols() == w.rows && is_real(bias.dtype())), "gemm: bias and w differ in N");
}

CpuMultiply::CpuMultiply(Machine machine)
    : machine_(machine),
      cells_(machine.allocator, machine.ledger, "workspace", kPackBytes),
      scratch_(machine.allocator, machine.ledger, "workspace",
               machine.threads.threads() * panel_scratch_bytes(machine.kernels.chunk_cells)),
      up_(static_cast<size_t>(kMaxTokens + machine.threads.threads())),
      scales_(up_.size()),
      packed_(static_cast<size_t>(machine.threads.threads())),
      shares_(machine.threads.threads()) {
  segments_.reserve(1024);
  pack_runs_.reserve(1024);
  pieces_.reserve(kMaxTokens);
}

void CpuMultiply::choose_kernel(Call& call) const {
  call.format = format_of(call.w.dtype, call.w.codes_finite);
  const auto index = static_cast<size_t>(call.format);
  const bool rounded =
      call.dynamic || call.x.quantized.has_value() || call.x.precision == Precision::kBFloat16;
  call.pairs = rounded && machine_.kernels.bf16[index] != nullptr;
  call.kernel = call.pairs ? machine_.kernels.bf16[index] : machine_.kernels.f32.panel[index];
  if (call.pairs) call.packing = machine_.kernels.bf16_rows;
  call.lane_columns = 4 / dtype_size(call.w.dtype);
  call.lane_cells = call.pairs ? call.lane_columns / 2 : call.lane_columns;
}

void CpuMultiply::run(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  check_multiply(x, w, bias, y);
  if (y.rows() == 0 || w.rows == 0) return;
  Call call = {.x = x, .w = w, .bias = bias, .y = y, .rows = {.begin = 0, .end = w.rows}};
  choose_kernel(call);

  const bool grid = w.scale_kind == ScaleKind::kGrid;
  for (size_t p = 0; p < (grid ? w.parts.size() : 1); ++p) {
    const ScalePart* part = grid ? &w.parts[p] : nullptr;
    const auto done = [&](const ScalePart& earlier) { return same_columns(earlier, *part); };
    if (grid && std::any_of(w.parts.begin(), w.parts.begin() + static_cast<std::ptrdiff_t>(p), done))
      continue;
    plan_columns(call, part);
    run_passes(call, y.rows());
  }
}

/// Cuts the columns into segments, at the boundaries of the grid of w and of that of x. A segment that begins
/// inside a lane shares it with its neighbour: each has the lane in its own copy of x, zero in the columns
/// that are the other's.
void CpuMultiply::plan_columns(Call& call, const ScalePart* grid) {
  call.grid = grid;
  segments_.clear();
  pack_runs_.clear();
  const int64_t columns = call.lane_columns;
  const ScalePart* x_grid = call.x_grid();
  int64_t cell = 0;
  for (int64_t k = 0; k < call.w.cols || segments_.empty();) {
    const int64_t end = std::min(next_boundary(grid, k, call.w.cols), next_boundary(x_grid, k, call.w.cols));
    MultiplySegment segment;
    segment.first_group = k / columns;
    segment.groups = ceil_div(end, columns) - segment.first_group;
    segment.x_cell = cell;
    segment.x_scale = x_grid != nullptr ? (k + x_grid->col_phase) / x_grid->block_cols : 0;
    segment.w_scale = grid != nullptr ? (k + grid->col_phase) / grid->block_cols : 0;
    segments_.push_back(segment);
    const int64_t cells = segment.groups * call.lane_cells;
    const int64_t aligned = round_up(cells, call.packing.step_cells);
    if (k > 0 && k % columns == 0 && pack_runs_.back().cells == pack_runs_.back().aligned_cells) {
      pack_runs_.back().end = end;
      pack_runs_.back().cells += cells;
      pack_runs_.back().aligned_cells += aligned;
    } else {
      pack_runs_.push_back({.begin = k,
                            .end = end,
                            .lead = k % columns,
                            .cell = cell,
                            .cells = cells,
                            .aligned_cells = aligned});
    }
    cell += aligned;
    k = end;
  }
  call.row_cells = cell;
  call.x_stride = spread(cell, call.packing.spread_lines);
  reserve_row(call.x_stride * 4);
}

/// Room for packed rows of so many bytes: at least one, and one for each thread before it goes into a tile.
void CpuMultiply::reserve_row(int64_t bytes) {
  const auto reserve = [&](Buffer& buffer, int64_t least) {
    if (buffer.bytes() >= least) return;
    buffer.reset();
    buffer = Buffer(machine_.allocator, machine_.ledger, "workspace", least);
  };
  reserve(cells_, bytes);
  if (machine_.kernels.bf16_rows.tile_rows > 1) reserve(scratch_, bytes * machine_.threads.threads());
}

std::byte* CpuMultiply::scratch_of(int worker) {
  return scratch_.data() + scratch_.bytes() / machine_.threads.threads() * worker;
}

int64_t CpuMultiply::fitting_rows(const Call& call) const {
  const int64_t row_bytes = call.x_stride * 4;
  return std::clamp<int64_t>(cells_.bytes() / row_bytes - call.packing.beyond, 1, kMaxTokens);
}

/// All tokens, as many at a time as the workspace takes, in passes of about equal size: each reads and
/// decodes all weights.
void CpuMultiply::run_passes(Call& call, int64_t tokens) {
  const int64_t in_cache = std::max(kFewestOfPass, call.packing.block_bytes / (call.x_stride * 4));
  const int64_t most = std::min(fitting_rows(call), in_cache);
  if (tokens <= most) return run_tokens(call, 0, tokens);
  const int64_t whole = std::min(call.packing.whole_tokens, most);
  const int64_t passes = ceil_div(tokens, most / whole * whole);
  const int64_t step = round_up(ceil_div(tokens, passes), whole);
  for (int64_t t = 0; t < tokens; t += step) run_tokens(call, t, std::min(t + step, tokens));
}

/// Few rows each thread packs for itself: they are in its cache then, and it waits for nobody.
bool CpuMultiply::each_packs(const Call& call, int64_t tokens) const {
  const int64_t rows = tokens * machine_.threads.threads();
  const bool few = tokens * call.w.cols < kSmallWork;
  return few && rows <= static_cast<int64_t>(up_.size()) &&
         (rows + call.packing.beyond) * call.x_stride * 4 <= cells_.bytes();
}

void CpuMultiply::pack_own(const Call& call, IndexRange tokens, int worker) {
  int64_t& packed = packed_[static_cast<size_t>(worker)];
  if (packed == pass_) return;
  packed = pass_;
  const int64_t first = worker * (tokens.end - tokens.begin);
  for (int64_t t = tokens.begin; t < tokens.end; ++t) pack_row(call, t, first + t - tokens.begin, worker);
}

void CpuMultiply::run_tokens(Call& call, int64_t begin, int64_t end) {
  const int64_t tokens = end - begin;
  call.each_packs = each_packs(call, tokens);
  call.tiled = !call.each_packs && call.packing.tiles(tokens);
  if (call.each_packs) {
    ++pass_;
  } else if (tokens * call.w.cols < kSmallWork) {
    for (int64_t t = 0; t < tokens; ++t) pack_row(call, begin + t, t, 0);
  } else {
    machine_.threads.parallel_for(tokens,
                                  [&](int64_t t, int worker) { pack_row(call, begin + t, t, worker); });
  }
  run_panels(call, begin, end);
}

void CpuMultiply::pack_row(const Call& call, int64_t token, int64_t slot, int worker) {
  const auto format = static_cast<size_t>(call.format);
  const int exponent = call.pairs ? 0 : machine_.kernels.f32.weight_exponent[format];
  int down = 0;
  if (exponent != 0) {
    down = call.dynamic || call.x.quantized
               ? 10
               : down_scaling(machine_.kernels.abs_max(call.x.dense.row<float>(token), call.w.cols));
  }
  up_[static_cast<size_t>(slot)] = std::ldexp(1.0F, down);
  const float multiplier = std::ldexp(1.0F, exponent - down);
  std::byte* row = call.tiled ? scratch_of(worker) : cells_.data() + slot * call.x_stride * 4;
  if (call.dynamic) {
    quantize_row(call, token, slot, multiplier, row);
  } else {
    for (const PackRun& run : pack_runs_) pack_run(call, run, token, multiplier, row);
  }
  if (call.tiled) row_to_tile(call, row, slot);
}

/// Step by step to where the kernels look for them.
void CpuMultiply::row_to_tile(const Call& call, const std::byte* row, int64_t slot) {
  const int64_t rows = call.packing.tile_rows;
  const int64_t step = call.packing.step_cells * 4;
  std::byte* into = cells_.data() + slot / rows * rows * call.x_stride * 4 + slot % rows * step;
  for (int64_t at = 0; at < call.row_cells * 4; at += step)
    std::memcpy(into + at * rows, row + at, static_cast<size_t>(step));
}

/// Columns of the last lane that do not exist, and the cells behind it.
void CpuMultiply::clear_end(const Call& call, const PackRun& run, std::byte* cells) {
  const int64_t last = run.cells - call.lane_cells;
  std::memset(cells + last * 4, 0, static_cast<size_t>((run.aligned_cells - last) * 4));
}

void CpuMultiply::pack_run(const Call& call, const PackRun& run, int64_t token, float multiplier,
                           std::byte* row) {
  std::byte* cells = row + run.cell * 4;
  if (run.cells == 0) return;
  std::memset(cells, 0, static_cast<size_t>(call.lane_cells * 4));
  clear_end(call, run, cells);
  const MultiplyKernels& kernels = machine_.kernels;
  const auto pack = [&](const float* x, int64_t count, int64_t at) {
    if (call.pairs) {
      kernels.pack_bf16(x, count, reinterpret_cast<uint16_t*>(cells) + run.lead + at);
    } else if (call.x.precision == Precision::kFloat32) {
      kernels.pack_f32(x, count, multiplier, reinterpret_cast<float*>(cells) + run.lead + at);
    } else {
      kernels.pack_f32_rounded(x, count, multiplier, reinterpret_cast<float*>(cells) + run.lead + at);
    }
  };
  if (!call.x.quantized) return pack(call.x.dense.row<float>(token) + run.begin, run.end - run.begin, 0);
  const QuantMatrixView& codes = *call.x.quantized;
  if (!call.pairs) {
    auto* floats = reinterpret_cast<float*>(cells) + run.lead;
    return machine_.quantize.widen(codes.dtype, codes.element(token, run.begin), run.end - run.begin,
                                   multiplier, floats);
  }
  std::array<float, kPieceColumns> piece;
  for (int64_t k = run.begin; k < run.end; k += kPieceColumns) {
    const int64_t count = std::min(kPieceColumns, run.end - k);
    machine_.quantize.widen(codes.dtype, codes.element(token, k), count, 1.0F, piece.data());
    kernels.pack_bf16(piece.data(), count, reinterpret_cast<uint16_t*>(cells) + run.lead + k - run.begin);
  }
}

/// Few tokens by shares, more by tasks.
void CpuMultiply::run_panels(const Call& call, int64_t begin, int64_t end) {
  const int64_t tokens = end - begin;
  const int64_t panels = ceil_div(call.w.rows, kPanelRows);
  if (tokens * call.w.rows * call.w.cols < kSmallWork) {
    if (call.each_packs) pack_own(call, {begin, end}, 0);
    for (int64_t p = 0; p < panels; ++p) run_part(call, p, {begin, end}, {begin, end}, 0);
  } else if (tokens <= kTogether) {
    run_shares(call, panels, {begin, end});
  } else {
    run_tasks(call, panels, {begin, end});
  }
}

/// All tokens of a panel at a time: what the weights take to come is most of the work.
void CpuMultiply::run_shares(const Call& call, int64_t panels, IndexRange tokens) {
  shares_.deal(panels);
  machine_.threads.parallel_for(machine_.threads.threads(), [&](int64_t share, int worker) {
    if (call.each_packs) pack_own(call, tokens, worker);
    for (int64_t p = shares_.take(share); p >= 0; p = shares_.take(share))
      run_part(call, p, tokens, tokens, worker);
  });
}

/// All tokens of some panels at a time; the last panels, or all where there are fewer of them than threads,
/// in pieces of the tokens, so that no thread waits long for another at the end.
void CpuMultiply::run_tasks(const Call& call, int64_t panels, IndexRange tokens) {
  const int64_t threads = machine_.threads.threads();
  const int64_t panel_bytes = std::max<int64_t>(1, ceil_div(call.w.cols, call.lane_columns) * kCellBytes);
  const int64_t step = std::clamp<int64_t>(kTaskBytes / panel_bytes, 1, ceil_div(panels, threads));
  const int64_t whole = call.packing.whole_tokens;  // enough to be worth decoding a panel for
  const int64_t pieces =
      std::min((tokens.end - tokens.begin + whole / 2) / whole, std::max(kPieces, 2 * threads / panels));
  const int64_t piece = round_up(ceil_div(tokens.end - tokens.begin, pieces), whole);
  const int64_t cut = std::min(panels, threads * step);  // panels that are cut
  const int64_t groups = ceil_div(panels - cut, step);
  machine_.threads.parallel_for(groups + cut * pieces, [&](int64_t index, int worker) {
    if (call.each_packs) pack_own(call, tokens, worker);
    if (index >= groups) {
      const int64_t panel = panels - cut + (index - groups) / pieces;
      const int64_t first = tokens.begin + (index - groups) % pieces * piece;
      if (first < tokens.end)
        run_part(call, panel, {first, std::min(first + piece, tokens.end)}, tokens, worker);
      return;
    }
    for (int64_t p = index * step; p < std::min((index + 1) * step, panels - cut); ++p)
      run_part(call, p, tokens, tokens, worker);
  });
}

/// Some of the packed tokens.
void CpuMultiply::run_part(const Call& call, int64_t panel, IndexRange part, IndexRange tokens, int worker) {
  const int64_t first = call.each_packs ? worker * (tokens.end - tokens.begin) : 0;
  run_panel(call, panel, part, task_for(call, part, first + part.begin - tokens.begin, worker));
}

PanelTask CpuMultiply::task_for(const Call& call, IndexRange tokens, int64_t slot, int worker) {
  PanelTask task;
  task.streams = machine_.kernels.streams;
  task.segments = segments_.data();
  task.segment_count = static_cast<int64_t>(segments_.size());
  task.x = cells_.data() + slot * call.x_stride * 4;
  task.x_stride = call.x_stride;
  task.tiled = call.tiled;
  task.up = up_.data() + slot;
  if (call.dynamic) {
    task.x_scale_stride = 1;
    task.x_scales = scales_.data() + slot;
  } else if (call.x.quantized && call.x.quantized->scale_kind != ScaleKind::kNone) {
    const ScalePart* x_grid = call.x_grid();
    task.x_scale_stride = x_grid != nullptr ? x_grid->grid_cols : 1;
    task.x_scales = call.x.quantized->scales + (x_grid != nullptr ? x_grid->first_scale : 0) +
                    tokens.begin * task.x_scale_stride;
  }
  task.tokens = tokens.end - tokens.begin;
  if (call.y.dtype() == DType::kF32) {
    task.y = call.y.row<float>(tokens.begin);
    task.stream_y = call.y.rows() * call.y.row_stride() * dtype_size(DType::kF32) >= kStreamedBytes;
  } else {
    task.narrow_y = call.y.row<std::byte>(tokens.begin);
    task.narrow_dtype = call.y.dtype();
    task.narrow = machine_.quantize.convert;
  }
  task.y_stride = call.y.row_stride();
  task.scratch = scratch_of(worker);
  return task;
}

/// Splits the panel's rows where the grids of two parts cut the columns differently.
void CpuMultiply::run_panel(const Call& call, int64_t panel, IndexRange tokens, PanelTask task) const {
  const QuantMatrixView& w = call.w;
  const int64_t first = panel * kPanelRows;
  const int64_t last = std::min(first + kPanelRows, w.rows);
  const int64_t row_bytes = w.cols * dtype_size(w.dtype);
  task.weights = w.layout == MatrixLayout::kLanes64
                     ? w.data + panel * ceil_div(w.cols, call.lane_columns) * kCellBytes
                     : w.data + first * row_bytes;
  task.row_bytes = w.layout == MatrixLayout::kLanes64 ? 0 : row_bytes;
  task.rows = last - first;
  if (task.narrow_y == nullptr) {
    task.y += first;
  } else {
    task.narrow_y += first * dtype_size(task.narrow_dtype);
  }
  const IndexRange rows = {std::max(first, call.rows.begin), std::min(last, call.rows.end)};
  if (call.grid == nullptr) return run_rows(call, rows, tokens, task);
  for (int64_t row = rows.begin; row < rows.end;) {
    const bool mine = same_columns(w.part_of(row), *call.grid);
    int64_t end = row;
    while (end < rows.end && same_columns(w.part_of(end), *call.grid) == mine) {
      end = std::min(w.part_of(end).row_end, rows.end);
    }
    if (mine) run_rows(call, {row, end}, tokens, task);
    row = end;
  }
}

void CpuMultiply::run_rows(const Call& call, IndexRange rows, IndexRange tokens, PanelTask task) const {
  const auto [begin, end] = rows;
  const QuantMatrixView& w = call.w;
  const int64_t first = begin / kPanelRows * kPanelRows;
  task.row_begin = begin - first;
  task.row_end = end - first;
  std::array<float, kPanelRows> scales;
  std::array<float, kPanelRows> bias;
  std::array<ScaleRun, kPanelRows> runs;
  if (w.scale_kind == ScaleKind::kGrid) {
    for (int64_t row = begin; row < end;) {
      const ScalePart& part = w.part_of(row);
      const int64_t block = (row - part.row_begin + part.row_phase) / part.block_rows;
      const int64_t block_end = part.row_begin + (block + 1) * part.block_rows - part.row_phase;
      const int64_t stop = std::min({end, part.row_end, block_end});
      runs[static_cast<size_t>(task.run_count++)] = {
          .begin = static_cast<int32_t>(row - first),
          .end = static_cast<int32_t>(stop - first),
          .scales = w.scales + part.first_scale + block * part.grid_cols};
      row = stop;
    }
    task.runs = runs.data();
  } else {
    scales.fill(1.0F);
    if (w.scale_kind == ScaleKind::kRow) {
      std::copy(w.scales + begin, w.scales + end, scales.begin() + task.row_begin);
    }
    task.row_scales = scales.data();
  }
  if (!call.bias.empty()) {
    const auto at = static_cast<size_t>(task.row_begin);
    widen_vector(call.bias, begin, std::span(bias).subspan(at, static_cast<size_t>(end - begin)));
    task.bias = bias.data();
  }
  if (!call.kernel(task)) return;
  if (call.dynamic) return mark_nan_rows(w, {begin, end}, tokens, call.y);
  multiply_nonfinite_rows(call.x, w, {begin, end}, tokens, call.y);
}

}  // namespace octet
