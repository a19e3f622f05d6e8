// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_filler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/loading/piece_values.h"
#include "octet/loading/shared_scales.h"

namespace octet {
namespace {

/// Rows that are measured and then quantized while they are still in the cache; whole cache lines of
/// kLanes64.
constexpr int64_t kSliceRows = 16;

}  // namespace

void TileResult::add(const TileResult& other) {
  stats.add(other.stats);
  amax = std::max(amax, other.amax);
  nonfinite += other.nonfinite;
  if (first_nonfinite_row < 0) first_nonfinite_row = other.first_nonfinite_row;
  overflow = overflow || other.overflow;
}

TileBuffer::TileBuffer(Backend& backend, const TileGeometry& geometry)
    : buffer_(backend.allocator(), backend.ledger(), "loading", geometry.worker_bytes()),
      tile_bytes_(geometry.tile_bytes) {}

bool TileFiller::is_vector(size_t piece) const {
  return parts_.bindings.destinations[parts_.bindings.pieces[piece].destination].is_vector();
}

int64_t TileFiller::length(size_t piece) const {
  return tile_length(parts_.bindings.pieces[piece], is_vector(piece), parts_.geometry);
}

// A tile of a grid begins where a block does, or at the slice's first row.
void TileFiller::append_tiles(size_t index, std::vector<Tile>& tiles) const {
  const Piece& piece = parts_.bindings.pieces[index];
  const int64_t step = largest_tile(piece, is_vector(index), parts_.geometry);
  const int64_t phase = makes_grid(piece) ? piece.first_row % kScaleBlock : 0;
  const int64_t size = is_vector(index) ? piece.cols : piece.rows;
  if (piece.cols == 0) return;
  for (int64_t begin = 0; begin < size;) {
    const int64_t end = std::min(size, begin + step - (begin == 0 ? phase : 0));
    tiles.push_back({.piece = index, .begin = begin, .end = end});
    begin = end;
  }
}

TileFiller::SourceBlock TileFiller::source_block(const Tile& tile) const {
  const Piece& part = piece(tile);
  if (is_vector(tile.piece)) {
    return {.rows = {.begin = part.first_col + tile.begin, .end = part.first_col + tile.end},
            .cols = {.begin = 0, .end = 1}};
  }
  return {.rows = {.begin = part.first_row + tile.begin, .end = part.first_row + tile.end},
          .cols = {.begin = part.first_col, .end = part.first_col + part.cols}};
}

bool TileFiller::needs_measuring(size_t index) const {
  const Piece& piece = parts_.bindings.pieces[index];
  return piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast &&
         (piece.shared_scales ||
          (piece.rule.granularity == Granularity::kTensor && piece.rows > length(index)));
}

void TileFiller::read_slice(const SourceTensor& tensor, const Tile& rows, std::span<std::byte> into) const {
  const SourceBlock block = source_block(rows);
  if (!is_vector(rows.piece) && piece(rows).cuts_columns()) {
    parts_.meter.add_read(parts_.source.read_block(tensor, block.rows, block.cols, into));
    return;
  }
  parts_.source.read_rows(tensor, block.rows.begin, block.rows.end, into);
  parts_.meter.add_read(static_cast<int64_t>(into.size()));
}

ConstTensorView TileFiller::read(const Tile& tile, const TileBuffer& buffer) const {
  const SourceTensor& tensor = *piece(tile).source;
  const int64_t count = tile.end - tile.begin;
  const Shape shape = is_vector(tile.piece) ? Shape{1, count} : Shape{count, piece(tile).cols};
  const auto bytes = static_cast<size_t>(shape.elements() * dtype_size(tensor.dtype));
  if (!buffer.ready.empty()) {
    check(bytes == buffer.ready.size(), "a tile is not what was read for it");
    parts_.meter.add_read(static_cast<int64_t>(bytes));
    return {buffer.ready.data(), tensor.dtype, shape};
  }
  check(bytes <= buffer.bytes().size(), "a tile is larger than its buffer");
  read_slice(tensor, tile, buffer.bytes().first(bytes));
  return {buffer.bytes().data(), tensor.dtype, shape};
}

TileResult TileFiller::measure(ConstTensorView x, const Tile& tile, const TileBuffer& buffer) const {
  const Piece& part = piece(tile);
  const int64_t runs = maxima_per_row(part);
  const int64_t first_run = makes_grid(part) ? kScaleBlock - part.first_col % kScaleBlock : x.cols();
  TileResult result;
  float* maxima = buffer.maxima();
  result.nonfinite = parts_.backend.abs_max(x, first_run, makes_grid(part) ? kScaleBlock : x.cols(),
                                            view_of(maxima, Shape{x.rows(), runs}));
  if (result.nonfinite > 0) result.first_nonfinite_row = part.first_row + tile.begin + first_nonfinite_row(x);
  result.amax = *std::max_element(maxima, maxima + x.rows() * runs);
  return result;
}

TileResult TileFiller::measure(const Tile& tile, const TileBuffer& buffer,
                               const QuantMatrixView& into) const {
  ConstTensorView x;
  if (makes_grid(piece(tile))) return measure_bands(tile, buffer, into, x);
  x = read(tile, buffer);
  const TileResult result = measure(x, tile, buffer);
  if (piece(tile).rule.granularity == Granularity::kChannel)
    std::copy_n(buffer.maxima(), x.rows(), into.scales + piece(tile).offset + tile.begin);
  return result;
}

float* TileFiller::maxima(size_t index, const QuantMatrixView& into) const {
  const Piece& part = parts_.bindings.pieces[index];
  if (part.rule.granularity == Granularity::kTensor || scale_table(part).own_count() == 0) return nullptr;
  return into.scales + (makes_grid(part) ? into.part_of(part.offset).first_scale : part.offset);
}

void TileFiller::set_scales(size_t index, float amax, const QuantMatrixView& into) const {
  const Piece& part = parts_.bindings.pieces[index];
  const ScaleRule rule = scale_rule(part);
  if (part.rule.granularity == Granularity::kTensor) {
    std::fill_n(into.scales + part.offset, part.rows, scale_from_amax(amax, rule));
    return;
  }
  float* const scales = maxima(index, into);
  if (scales == nullptr) return;
  for (int64_t i = 0; i < scale_table(part).own_count(); ++i) scales[i] = scale_from_amax(scales[i], rule);
}

TileResult TileFiller::fill(const Tile& tile, const TileBuffer& buffer, const QuantMatrixView& into) const {
  const Piece& part = piece(tile);
  if (part.kind != PieceKind::kQuantize) return store(tile, buffer, into);
  if (needs_measuring(tile.piece)) return quantize_measured(tile, buffer, into);
  return makes_grid(part) ? quantize_bands(tile, buffer, into) : quantize_rows(tile, buffer, into);
}

TileResult TileFiller::store(const Tile& tile, const TileBuffer& buffer, const QuantMatrixView& into) const {
  const ConstTensorView x = read(tile, buffer);
  TileResult result;
  if (!widens_exactly(x.dtype(), into.dtype)) {
    result.overflow = rounds_to_infinity(measure(x, tile, buffer).amax, into.dtype);
  }
  const int64_t begin = piece(tile).offset + tile.begin;
  parts_.backend.store(
      x, into, is_vector(tile.piece) ? MatrixPlace{.row = 0, .col = begin} : MatrixPlace{.row = begin});
  return result;
}

TileResult TileFiller::quantize_rows(const Tile& tile, const TileBuffer& buffer,
                                     const QuantMatrixView& into) const {
  const Piece& part = piece(tile);
  const ConstTensorView x = read(tile, buffer);
  const bool one = part.rule.granularity == Granularity::kTensor && !part.rule.raw_cast;
  const int64_t first = part.offset + tile.begin;
  TileResult result;
  for (int64_t begin = 0; begin < x.rows();) {
    const int64_t end = one ? x.rows() : std::min(x.rows(), round_up(first + begin + 1, kSliceRows) - first);
    const Tile slice = {.piece = tile.piece, .begin = tile.begin + begin, .end = tile.begin + end};
    result.add(quantize_slice(x.slice_rows(begin, end), slice, buffer, into));
    begin = end;
  }
  return result;
}

TileResult TileFiller::quantize_slice(ConstTensorView x, const Tile& slice, const TileBuffer& buffer,
                                      const QuantMatrixView& into) const {
  const Piece& part = piece(slice);
  TileResult result = measure(x, slice, buffer);
  const int64_t row = part.offset + slice.begin;
  if (part.rule.raw_cast) {
    if (into.scale_kind == ScaleKind::kRow) std::fill_n(into.scales + row, x.rows(), 1.0F);
    parts_.backend.quantize(x, into, {.row = row}, raw_cast_rule(), &result.stats);
    return result;
  }
  const ScaleRule rule = scale_rule(part);
  const bool one = part.rule.granularity == Granularity::kTensor;
  for (int64_t i = 0; i < x.rows(); ++i)
    into.scales[row + i] = scale_from_amax(one ? result.amax : buffer.maxima()[i], rule);
  parts_.backend.quantize(x, into, {.row = row}, quantize_rule(rule), &result.stats);
  return result;
}

/// As many rows of a tile from `begin` on as fit a buffer.
Tile TileFiller::slice_of(const Tile& tile, int64_t begin) const {
  return {.piece = tile.piece, .begin = begin, .end = std::min(tile.end, begin + length(tile.piece))};
}

TileResult TileFiller::quantize_measured(const Tile& tile, const TileBuffer& buffer,
                                         const QuantMatrixView& into) const {
  TileResult result;
  for (Tile slice = slice_of(tile, tile.begin); slice.begin < tile.end; slice = slice_of(tile, slice.end)) {
    const ConstTensorView x = read(slice, buffer);
    parts_.backend.quantize(x, into, {.row = piece(tile).offset + slice.begin},
                            quantize_rule(scale_rule(piece(tile))), &result.stats);
  }
  return result;
}

TileResult TileFiller::measure_bands(const Tile& tile, const TileBuffer& buffer, const QuantMatrixView& into,
                                     ConstTensorView& x) const {
  const Piece& part = piece(tile);
  const int64_t runs = maxima_per_row(part);
  const ScalePart& grid = into.part_of(part.offset);
  std::fill(into.scales + grid.index(part.offset + tile.begin, 0),
            into.scales + grid.index(part.offset + tile.end - 1, 0) + runs, 0.0F);
  TileResult result;
  for (Tile slice = slice_of(tile, tile.begin); slice.begin < tile.end; slice = slice_of(tile, slice.end)) {
    x = read(slice, buffer);
    result.add(measure(x, slice, buffer));
    for (int64_t i = 0; i < x.rows(); ++i) {
      float* band = into.scales + grid.index(part.offset + slice.begin + i, 0);
      for (int64_t run = 0; run < runs; ++run)
        band[run] = std::max(band[run], buffer.maxima()[i * runs + run]);
    }
  }
  return result;
}

// A tile is whole bands when one or more of them fit the buffer; otherwise it is one band that is read in
// slices, twice.
TileResult TileFiller::quantize_bands(const Tile& tile, const TileBuffer& buffer,
                                      const QuantMatrixView& into) const {
  const Piece& part = piece(tile);
  const ScaleRule rule = scale_rule(part);
  ConstTensorView x;
  TileResult result = measure_bands(tile, buffer, into, x);
  const ScalePart& grid = into.part_of(part.offset);
  const int64_t last = grid.index(part.offset + tile.end - 1, 0) + maxima_per_row(part);
  for (int64_t i = grid.index(part.offset + tile.begin, 0); i < last; ++i)
    into.scales[i] = scale_from_amax(into.scales[i], rule);
  if (x.rows() < tile.end - tile.begin) {
    result.stats = quantize_measured(tile, buffer, into).stats;
  } else {
    parts_.backend.quantize(x, into, {.row = part.offset + tile.begin}, quantize_rule(rule), &result.stats);
  }
  return result;
}

void TileFiller::adopt_scales(size_t index, const TileBuffer& buffer, const QuantMatrixView& into) const {
  const Piece& part = parts_.bindings.pieces[index];
  if (part.kind != PieceKind::kAdopt || into.scale_kind == ScaleKind::kNone || part.rows == 0) return;
  float* out = into.scales +
               (into.scale_kind == ScaleKind::kGrid ? into.part_of(part.offset).first_scale : part.offset);
  if (part.scales == nullptr) {
    std::fill_n(out, part.rows, 1.0F);
    return;
  }
  const ScaleBlock block = adopted_scales(part);
  const int64_t row_bytes = block.cols.size() * dtype_size(part.scales->dtype);
  if (row_bytes == 0) return;
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(buffer.bytes().size()) / row_bytes);
  for (int64_t begin = block.rows.begin; begin < block.rows.end; begin += step) {
    const IndexRange rows{.begin = begin, .end = std::min(block.rows.end, begin + step)};
    adopt_rows(*part.scales, rows, block.cols, buffer, out + (begin - block.rows.begin) * block.cols.size());
  }
  if (part.file_scales == FileScales::kScalar) std::fill_n(out, part.rows, out[0]);
}

void TileFiller::adopt_rows(const SourceTensor& scales, IndexRange rows, IndexRange cols,
                            const TileBuffer& buffer, float* out) const {
  const int64_t count = rows.size() * cols.size();
  const auto bytes = buffer.bytes().first(static_cast<size_t>(count * dtype_size(scales.dtype)));
  if (cols.size() == scales.cols()) {
    parts_.source.read_rows(scales, rows.begin, rows.end, bytes);
    parts_.meter.add_read(static_cast<int64_t>(bytes.size()));
  } else {
    parts_.meter.add_read(parts_.source.read_block(scales, rows, cols, bytes));
  }
  for (int64_t i = 0; i < count; ++i) {
    const float scale = scale_value(bytes.data(), i, scales.dtype);
    if (!is_scale(scale)) {
      const int64_t index = (rows.begin + i / cols.size()) * scales.cols() + cols.begin + i % cols.size();
      throw FormatError(scale_fault(scales, index, scale));
    }
    out[i] = scale;
  }
}

TileFiller::Difference TileFiller::compare_twin(const Tile& rows, const TileBuffer& buffer) const {
  const Piece& part = piece(rows);
  const int64_t elements = (rows.end - rows.begin) * (is_vector(rows.piece) ? 1 : part.cols);
  const auto first_bytes = static_cast<size_t>(elements * dtype_size(part.source->dtype));
  const auto second_bytes = static_cast<size_t>(elements * dtype_size(part.twin->dtype));
  const auto first = buffer.bytes().first(first_bytes);
  const auto second = buffer.bytes().subspan(first_bytes, second_bytes);
  read_slice(*part.source, rows, first);
  read_slice(*part.twin, rows, second);
  Difference difference;
  if (part.source->dtype == part.twin->dtype && std::memcmp(first.data(), second.data(), first_bytes) == 0)
    return difference;
  for (int64_t i = 0; i < elements; ++i) {
    const double a = value_at(first.data(), i, part.source->dtype);
    const double b = value_at(second.data(), i, part.twin->dtype);
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    ++difference.differing;
    const double gap = std::fabs(a - b);
    if (gap > difference.max_abs) difference.max_abs = gap;
  }
  return difference;
}

}  // namespace octet
