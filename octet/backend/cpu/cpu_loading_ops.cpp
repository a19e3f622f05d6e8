// SPDX-License-Identifier: Apache-2.0
/// The operations of loading: tiles are cut here into runs that share a scale, and into the panels of
/// kLanes64.
#include <algorithm>
#include <cstring>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/checked_math.h"

namespace octet {
namespace {

/// Columns that pass through the buffer between rows and lanes at a time; the rows of the buffer are one
/// cache line longer, so that those of a panel do not fall on each other in the cache.
constexpr int64_t kChunkBytes = 1024;
constexpr int64_t kChunkStride = kChunkBytes + 64;

void check_place(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) {
  check(at.row >= 0 && at.col >= 0 && at.row + x.rows() <= w.rows && at.col + x.cols() <= w.cols,
        "the tile lies outside of the matrix");
}

/// Rows [begin, end) of a matrix within one panel, columns [col_begin, col_end).
struct Tile {
  int64_t row_begin;
  int64_t row_end;
  int64_t col_begin;
  int64_t col_end;
};

/// Calls body(tile) for pieces of a rectangle that lie in one panel of rows and within one chunk of columns,
/// counted from the matrix's first column in steps of `chunk`.
template <class Body>
void for_tiles(const Tile& whole, int64_t chunk, Body&& body) {
  for (int64_t r = whole.row_begin; r < whole.row_end;) {
    const int64_t r_end = std::min(whole.row_end, round_up(r + 1, kPanelRows));
    for (int64_t c = whole.col_begin; c < whole.col_end;) {
      const int64_t c_end = std::min(whole.col_end, round_up(c + 1, chunk));
      body(Tile{r, r_end, c, c_end});
      c = c_end;
    }
    r = r_end;
  }
}

/// Where the elements of a tile are read.
struct TileSource {
  const std::byte* begin;
  int64_t stride;  // bytes from row to row
  int64_t ahead;   // bytes from each element to what is read later: into the cache meanwhile
};

/// Moves a tile between rows of bytes and the lanes of a matrix in kLanes64; whole lanes by the kernel, the
/// first and last few elements, which share their lane with a neighbour, one by one.
class LaneMover {
 public:
  LaneMover(const Kernels& kernels, const QuantMatrixView& w)
      : kernels_(kernels), w_(w), size_(dtype_size(w.dtype)), per_lane_(4 / size_) {}

  void to_matrix(const std::byte* rows, int64_t stride, const Tile& tile) const {
    const auto [first, last] = whole_lanes(tile);
    edges(tile, first, last, [&](std::byte* element, int64_t row, int64_t col) {
      std::memcpy(element, rows + row * stride + col * size_, static_cast<size_t>(size_));
    });
    // The kernel only reads its rows in this direction.
    if (first < last)
      kernels_.quantize.to_lanes(block(const_cast<std::byte*>(rows), stride, tile, first, last));
  }
  /// What to_matrix wrote is there for other threads as well.
  void finish() const { kernels_.quantize.end_of_lanes(); }
  void from_matrix(std::byte* rows, int64_t stride, const Tile& tile) const {
    const auto [first, last] = whole_lanes(tile);
    edges(tile, first, last, [&](const std::byte* element, int64_t row, int64_t col) {
      std::memcpy(rows + row * stride + col * size_, element, static_cast<size_t>(size_));
    });
    if (first < last) kernels_.quantize.from_lanes(block(rows, stride, tile, first, last));
  }

 private:
  [[nodiscard]] std::pair<int64_t, int64_t> whole_lanes(const Tile& tile) const {
    const int64_t first = std::min(tile.col_end, round_up(tile.col_begin, per_lane_));
    return {first, std::max(first, tile.col_end / per_lane_ * per_lane_)};
  }
  template <class Move>
  void edges(const Tile& tile, int64_t first, int64_t last, Move&& move) const {
    for (int64_t r = tile.row_begin; r < tile.row_end; ++r) {
      for (int64_t c = tile.col_begin; c < first; ++c)
        move(w_.element(r, c), r - tile.row_begin, c - tile.col_begin);
      for (int64_t c = last; c < tile.col_end; ++c)
        move(w_.element(r, c), r - tile.row_begin, c - tile.col_begin);
    }
  }
  [[nodiscard]] LaneBlock block(std::byte* rows, int64_t stride, const Tile& tile, int64_t first,
                                int64_t last) const {
    return {.rows = rows + (first - tile.col_begin) * size_,
            .row_stride = stride,
            .row_count = tile.row_end - tile.row_begin,
            .words = (last - first) / per_lane_,
            .lanes = w_.element(tile.row_begin, first)};
  }

  const Kernels& kernels_;
  QuantMatrixView w_;
  int64_t size_;
  int64_t per_lane_;
};

/// The end of the columns from `col` on that share a scale with it in `row`.
int64_t scale_run_end(const QuantMatrixView& w, int64_t row, int64_t col) {
  if (w.scale_kind != ScaleKind::kGrid) return w.cols;
  const ScalePart& part = w.part_of(row);
  return round_up(col + part.col_phase + 1, part.block_cols) - part.col_phase;
}

/// The end of the rows from `row` on that share their scales with it; `end` where there is none before.
int64_t scale_rows_end(const QuantMatrixView& w, int64_t row, int64_t end) {
  if (w.scale_kind == ScaleKind::kNone) return end;
  if (w.scale_kind == ScaleKind::kRow) return row + 1;
  const ScalePart& part = w.part_of(row);
  const int64_t down = row - part.row_begin + part.row_phase;
  const int64_t block_end = row + part.block_rows - down % part.block_rows;
  return std::min({end, part.row_end, block_end});
}

/// Quantizes one tile after the other of a matrix, keeping the tables of the scales it has met.
class TileQuantizer {
 public:
  /// `sums`: nullptr when nobody asks for them. They are complete after finish().
  TileQuantizer(const Kernels& kernels, const QuantMatrixView& w, QuantizeKind kind, QuantizeSums* sums)
      : kernels_(kernels), w_(w), kind_(kind), mover_(kernels, w), sums_(sums) {}

  void run(const TileSource& x, const Tile& tile) {
    if (w_.layout == MatrixLayout::kRowMajor) {
      codes(x, tile, w_.element(tile.row_begin, tile.col_begin), w_.cols);
    } else {
      codes(x, tile, chunk_, kChunkStride);
      mover_.to_matrix(chunk_, kChunkStride, tile);
    }
  }
  void finish() const { mover_.finish(); }

 private:
  void codes(const TileSource& x, const Tile& tile, std::byte* into, int64_t stride) {
    const int64_t size = dtype_size(kind_.from);
    for (int64_t r = tile.row_begin; r < tile.row_end;) {
      const int64_t r_end = scale_rows_end(w_, r, tile.row_end);
      for (int64_t c = tile.col_begin; c < tile.col_end;) {
        const int64_t c_end = std::min(tile.col_end, scale_run_end(w_, r, c));
        const int64_t down = r - tile.row_begin;
        const int64_t right = c - tile.col_begin;
        const QuantizeRun run = {.x = x.begin + down * x.stride + right * size,
                                 .count = c_end - c,
                                 .scale = w_.scale(r, c),
                                 .codes = into + down * stride + right,
                                 .rows = r_end - r,
                                 .ahead = x.ahead,
                                 .x_stride = x.stride,
                                 .codes_stride = stride};
        kernels_.quantize.quantize(kind_, run, table_of(r), sums_);
        c = c_end;
      }
      r = r_end;
    }
  }
  MantissaTable& table_of(int64_t row) {
    return tables_[w_.scale_kind == ScaleKind::kRow ? row % kPanelRows : 0];
  }

  const Kernels& kernels_;
  QuantMatrixView w_;
  QuantizeKind kind_;
  LaneMover mover_;
  QuantizeSums* sums_;
  MantissaTable tables_[kPanelRows];
  alignas(64) std::byte chunk_[kPanelRows * kChunkStride];
};

/// Part of a row of codes and where its values go.
struct CodeSpan {
  int64_t begin;  // columns of the matrix
  int64_t end;
  const std::byte* codes;
  float* y;
};

void widen_scaled(const Kernels& kernels, const QuantMatrixView& w, int64_t row, const CodeSpan& span) {
  for (int64_t c = span.begin; c < span.end;) {
    const int64_t end = std::min(span.end, scale_run_end(w, row, c));
    const std::byte* from = span.codes + (c - span.begin) * dtype_size(w.dtype);
    kernels.quantize.widen(w.dtype, from, end - c, w.scale(row, c), span.y + (c - span.begin));
    c = end;
  }
}

QuotientKind quotient_kind(const QuantMatrixView& w, QuantizeRule::Quotient quotient) {
  if (w.scale_kind == ScaleKind::kNone) return QuotientKind::kRaw;
  switch (quotient) {
    case QuantizeRule::Quotient::kDivide:
      return QuotientKind::kDivide;
    case QuantizeRule::Quotient::kReciprocal:
      return QuotientKind::kReciprocal;
    case QuantizeRule::Quotient::kDivideRounded:
      return QuotientKind::kDivideRounded;
  }
  return QuotientKind::kDivide;
}

}  // namespace

int64_t CpuBackend::abs_max(ConstTensorView x, int64_t first_segment, int64_t segment, TensorView amax) {
  check(is_real(x.dtype()) && amax.dtype() == DType::kF32, "abs_max takes F32, F16 or BF16 and gives F32");
  check(first_segment > 0 && segment > 0, "abs_max needs runs of at least one column");
  const int64_t rest = std::max<int64_t>(0, x.cols() - first_segment);
  check(x.rows() == 0 || (amax.rows() == x.rows() && amax.cols() == 1 + ceil_div(rest, segment)),
        "abs_max: one result for each row and run");
  const int64_t size = dtype_size(x.dtype());
  int64_t not_finite = 0;
  for (int64_t r = 0; r < x.rows(); ++r) {
    auto* result = amax.row<float>(r);
    for (int64_t begin = 0; begin < x.cols();) {
      const int64_t end =
          begin == 0 ? std::min(first_segment, x.cols()) : std::min(begin + segment, x.cols());
      const AbsMax found =
          kernels_.quantize.abs_max(x.dtype(), x.row<std::byte>(r) + begin * size, end - begin);
      *result++ = found.value;
      not_finite += found.not_finite;
      begin = end;
    }
  }
  return not_finite;
}

void CpuBackend::quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at,
                          const QuantizeRule& rule, QuantizeStats* stats) {
  check(is_real(x.dtype()) && is_fp8(w.dtype), "quantize takes F32, F16 or BF16 and gives FP8");
  check_place(x, w, at);
  const QuantizeKind kind = {.from = x.dtype(),
                             .to = w.dtype,
                             .quotient = quotient_kind(w, rule.quotient),
                             .nan_saturates = rule.nan_saturates};
  QuantizeSums sums;
  TileQuantizer quantizer(kernels_, w, kind, stats == nullptr ? nullptr : &sums);
  const int64_t chunk = w.layout == MatrixLayout::kRowMajor ? std::max<int64_t>(1, w.cols) : kChunkBytes;
  const int64_t size = dtype_size(x.dtype());
  const int64_t stride = x.row_stride() * size;
  for_tiles({at.row, at.row + x.rows(), at.col, at.col + x.cols()}, chunk, [&](const Tile& tile) {
    const std::byte* from = x.row<std::byte>(tile.row_begin - at.row) + (tile.col_begin - at.col) * size;
    quantizer.run({.begin = from, .stride = stride, .ahead = x.rows() * stride}, tile);
  });
  quantizer.finish();
  if (stats == nullptr) return;
  stats->add({.signal = sums.signal,
              .noise = sums.noise,
              .elements = x.rows() * x.cols(),
              .zeroed = sums.zeroed,
              .saturated = sums.saturated});
}

void CpuBackend::store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) {
  const bool same = x.dtype() == w.dtype;
  check(same || (is_real(x.dtype()) && is_real(w.dtype)), "store changes no dtype to or from FP8");
  check_place(x, w, at);
  const int64_t x_size = dtype_size(x.dtype());
  const int64_t size = dtype_size(w.dtype);
  alignas(64) std::byte chunk[kPanelRows * kChunkStride];
  const LaneMover mover(kernels_, w);
  const auto copy_rows = [&](const std::byte* from, const Tile& tile, std::byte* into, int64_t stride) {
    const int64_t count = tile.col_end - tile.col_begin;
    for (int64_t r = 0; r < tile.row_end - tile.row_begin; ++r) {
      const std::byte* row = from + r * x.row_stride() * x_size;
      if (same) {
        std::memcpy(into + r * stride, row, static_cast<size_t>(count * size));
      } else {
        kernels_.quantize.convert(x.dtype(), row, count, w.dtype, into + r * stride);
      }
    }
  };
  // Through the chunk where nothing is rounded either: rows that lie a power of two apart fall on each other.
  for_tiles({at.row, at.row + x.rows(), at.col, at.col + x.cols()}, kChunkBytes / size,
            [&](const Tile& tile) {
              const std::byte* from =
                  x.row<std::byte>(tile.row_begin - at.row) + (tile.col_begin - at.col) * x_size;
              if (w.layout == MatrixLayout::kRowMajor) {
                copy_rows(from, tile, w.element(tile.row_begin, tile.col_begin), w.cols * size);
              } else {
                copy_rows(from, tile, chunk, kChunkStride);
                mover.to_matrix(chunk, kChunkStride, tile);
              }
            });
  mover.finish();
}

void CpuBackend::read_rows(const QuantMatrixView& w, int64_t row, TensorView y) {
  const bool bits = y.dtype() == w.dtype && y.dtype() != DType::kF32;
  check(bits || y.dtype() == DType::kF32, "read_rows gives float32 or the stored dtype");
  check(row >= 0 && row + y.rows() <= w.rows && (y.rows() == 0 || y.cols() == w.cols),
        "the rows to read lie outside of the matrix");
  const int64_t size = dtype_size(w.dtype);
  const int64_t y_size = dtype_size(y.dtype());
  alignas(64) std::byte chunk[kPanelRows * kChunkStride];
  const LaneMover mover(kernels_, w);
  for_tiles({row, row + y.rows(), 0, w.cols}, kChunkBytes / size, [&](const Tile& tile) {
    const bool lanes = w.layout == MatrixLayout::kLanes64;
    const std::byte* from = lanes ? chunk : w.element(tile.row_begin, tile.col_begin);
    const int64_t stride = lanes ? kChunkStride : w.cols * size;
    if (lanes) mover.from_matrix(chunk, kChunkStride, tile);
    for (int64_t r = tile.row_begin; r < tile.row_end; ++r) {
      std::byte* into = y.row<std::byte>(r - row) + tile.col_begin * y_size;
      const std::byte* source = from + (r - tile.row_begin) * stride;
      if (bits) {
        std::memcpy(into, source, static_cast<size_t>((tile.col_end - tile.col_begin) * size));
      } else {
        widen_scaled(kernels_, w, r,
                     {.begin = tile.col_begin,
                      .end = tile.col_end,
                      .codes = source,
                      .y = reinterpret_cast<float*>(into)});
      }
    }
  });
}

}  // namespace octet
