// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_filler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/quant/scales.h"

namespace octet {
namespace {

float value_at(const std::byte* data, int64_t index, DType dtype) {
  return visit_float(dtype, [&]<class T>() {
    T value;
    std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return to_float(value);
  });
}

int64_t first_nonfinite_row(ConstTensorView x) {
  for (int64_t row = 0; row < x.rows(); ++row) {
    for (int64_t col = 0; col < x.cols(); ++col) {
      if (!std::isfinite(value_at(x.row<std::byte>(row), col, x.dtype()))) return row;
    }
  }
  return -1;
}

bool rounds_to_infinity(float amax, DType dtype) {
  return std::isfinite(amax) &&
         !std::isfinite(visit_float(dtype, [&]<class T>() { return to_float(from_float<T>(amax)); }));
}

ScaleRule scale_rule(const Piece& piece) {
  return {.numerics = piece.rule.numerics,
          .granularity = piece.rule.granularity,
          .format = piece.rule.format,
          .source = piece.source->dtype};
}

/// E8M0 holds a power of two; 255 is its NaN.
float scale_value(const std::byte* data, int64_t index, DType dtype) {
  if (dtype != DType::kF8E8M0) return value_at(data, index, dtype);
  const auto exponent = std::to_integer<int>(data[index]);
  return exponent == 255 ? NAN : std::ldexp(1.0F, exponent - 127);
}

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

void TileFiller::append_tiles(size_t index, std::vector<Tile>& tiles) const {
  const Piece& piece = parts_.bindings.pieces[index];
  int64_t step = length(index);
  if (maxima_per_row(piece) > 1 ||
      (piece.kind == PieceKind::kQuantize && piece.rule.granularity == Granularity::kBlock)) {
    step = std::max(kScaleBlock, step / kScaleBlock * kScaleBlock);
  }
  const int64_t size = is_vector(index) ? piece.cols : piece.rows;
  for (int64_t begin = 0; begin < size; begin += step) {
    tiles.push_back({.piece = index, .begin = begin, .end = std::min(size, begin + step)});
  }
}

bool TileFiller::needs_measuring(size_t index) const {
  const Piece& piece = parts_.bindings.pieces[index];
  return piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast &&
         piece.rule.granularity == Granularity::kTensor && piece.rows > length(index);
}

ConstTensorView TileFiller::read(const Tile& tile, const TileBuffer& buffer) const {
  const SourceTensor& tensor = *piece(tile).source;
  const int64_t count = tile.end - tile.begin;
  const Shape shape = is_vector(tile.piece) ? Shape{1, count} : Shape{count, piece(tile).cols};
  const auto bytes = static_cast<size_t>(shape.elements() * dtype_size(tensor.dtype));
  check(bytes <= buffer.bytes().size(), "a tile is larger than its buffer");
  parts_.source.read_rows(tensor, tile.begin, tile.end, buffer.bytes().first(bytes));
  parts_.meter.add_read(static_cast<int64_t>(bytes));
  return {buffer.bytes().data(), tensor.dtype, shape};
}

TileResult TileFiller::measure(ConstTensorView x, const Tile& tile, const TileBuffer& buffer) const {
  const Piece& part = piece(tile);
  const int64_t runs = maxima_per_row(part);
  TileResult result;
  float* maxima = buffer.maxima();
  result.nonfinite =
      parts_.backend.abs_max(x, runs == 1 ? x.cols() : kScaleBlock, runs == 1 ? x.cols() : kScaleBlock,
                             view_of(maxima, Shape{x.rows(), runs}));
  if (result.nonfinite > 0) result.first_nonfinite_row = tile.begin + first_nonfinite_row(x);
  result.amax = *std::max_element(maxima, maxima + x.rows() * runs);
  return result;
}

TileResult TileFiller::measure(const Tile& tile, const TileBuffer& buffer) const {
  return measure(read(tile, buffer), tile, buffer);
}

TileResult TileFiller::fill(const Tile& tile, const TileBuffer& buffer, const QuantMatrixView& into,
                            const TileResult* measured) const {
  const Piece& part = piece(tile);
  if (part.kind != PieceKind::kQuantize) return store(tile, buffer, into);
  const bool bands = !part.rule.raw_cast && part.rule.granularity == Granularity::kBlock;
  return bands ? quantize_bands(tile, buffer, into) : quantize_rows(tile, buffer, into, measured);
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

TileResult TileFiller::quantize_rows(const Tile& tile, const TileBuffer& buffer, const QuantMatrixView& into,
                                     const TileResult* measured) const {
  const Piece& part = piece(tile);
  const ConstTensorView x = read(tile, buffer);
  TileResult result = measured != nullptr ? TileResult{} : measure(x, tile, buffer);
  const int64_t row = part.offset + tile.begin;
  if (part.rule.raw_cast) {
    if (into.scale_kind == ScaleKind::kRow) std::fill_n(into.scales + row, x.rows(), 1.0F);
    parts_.backend.quantize(x, into, {.row = row}, raw_cast_rule(), result.stats);
    return result;
  }
  const ScaleRule rule = scale_rule(part);
  if (part.rule.granularity == Granularity::kTensor) {
    const float amax = measured != nullptr ? measured->amax : result.amax;
    std::fill_n(into.scales + row, x.rows(), scale_from_amax(amax, rule));
  } else {
    for (int64_t i = 0; i < x.rows(); ++i) into.scales[row + i] = scale_from_amax(buffer.maxima()[i], rule);
  }
  parts_.backend.quantize(x, into, {.row = row}, quantize_rule(rule), result.stats);
  return result;
}

// A tile is whole bands when one or more of them fit the buffer; otherwise it is one band that is read in
// slices, twice.
TileResult TileFiller::quantize_bands(const Tile& tile, const TileBuffer& buffer,
                                      const QuantMatrixView& into) const {
  const Piece& part = piece(tile);
  const int64_t runs = maxima_per_row(part);
  const int64_t step = std::min(length(tile.piece), tile.end - tile.begin);
  const ScalePart& grid = into.part_of(part.offset);
  const ScaleRule rule = scale_rule(part);
  const auto slice_at = [&](int64_t begin) {
    return Tile{.piece = tile.piece, .begin = begin, .end = std::min(tile.end, begin + step)};
  };
  float* const scales = into.scales + grid.index(part.offset + tile.begin, 0);
  const int64_t bands = ceil_div(tile.end - tile.begin, kScaleBlock);
  std::fill_n(scales, bands * runs, 0.0F);
  TileResult result;
  ConstTensorView x;
  for (int64_t begin = tile.begin; begin < tile.end; begin += step) {
    const Tile slice = slice_at(begin);
    x = read(slice, buffer);
    result.add(measure(x, slice, buffer));
    for (int64_t i = 0; i < x.rows(); ++i) {
      float* band = scales + (begin - tile.begin + i) / kScaleBlock * runs;
      for (int64_t run = 0; run < runs; ++run)
        band[run] = std::max(band[run], buffer.maxima()[i * runs + run]);
    }
  }
  for (int64_t i = 0; i < bands * runs; ++i) scales[i] = scale_from_amax(scales[i], rule);
  const bool whole = step == tile.end - tile.begin;
  for (int64_t begin = tile.begin; begin < tile.end; begin += step) {
    if (!whole) x = read(slice_at(begin), buffer);
    parts_.backend.quantize(x, into, {.row = part.offset + begin}, quantize_rule(rule), result.stats);
  }
  return result;
}

void TileFiller::adopt_scales(size_t index, const TileBuffer& buffer, const QuantMatrixView& into) const {
  const Piece& part = parts_.bindings.pieces[index];
  if (part.kind != PieceKind::kAdopt || into.scale_kind == ScaleKind::kNone) return;
  float* out = into.scales +
               (into.scale_kind == ScaleKind::kGrid ? into.part_of(part.offset).first_scale : part.offset);
  if (part.scales == nullptr) {
    std::fill_n(out, part.rows, 1.0F);
    return;
  }
  const SourceTensor& scales = *part.scales;
  const int64_t row_elements = scales.elements() / scales.rows();
  const int64_t row_bytes = row_elements * dtype_size(scales.dtype);
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(buffer.bytes().size()) / row_bytes);
  for (int64_t begin = 0; begin < scales.rows(); begin += step) {
    const int64_t end = std::min(scales.rows(), begin + step);
    const auto bytes = buffer.bytes().first(static_cast<size_t>((end - begin) * row_bytes));
    parts_.source.read_rows(scales, begin, end, bytes);
    parts_.meter.add_read(static_cast<int64_t>(bytes.size()));
    for (int64_t i = begin * row_elements; i < end * row_elements; ++i) {
      const float scale = scale_value(bytes.data(), i - begin * row_elements, scales.dtype);
      if (!std::isfinite(scale) || scale < 0) {
        throw FormatError(place(scales) + ": scale " + std::to_string(i) + " is " + std::to_string(scale) +
                          ", expected a finite number that is not negative");
      }
      out[i] = scale;
    }
  }
  if (part.file_scales == FileScales::kScalar) std::fill_n(out, part.rows, out[0]);
}

TileFiller::Difference TileFiller::compare_twin(const Tile& rows, const TileBuffer& buffer) const {
  const Piece& part = piece(rows);
  const int64_t elements = (rows.end - rows.begin) * (is_vector(rows.piece) ? 1 : part.cols);
  const auto first_bytes = static_cast<size_t>(elements * dtype_size(part.source->dtype));
  const auto second_bytes = static_cast<size_t>(elements * dtype_size(part.twin->dtype));
  const auto first = buffer.bytes().first(first_bytes);
  const auto second = buffer.bytes().subspan(first_bytes, second_bytes);
  parts_.source.read_rows(*part.source, rows.begin, rows.end, first);
  parts_.source.read_rows(*part.twin, rows.begin, rows.end, second);
  parts_.meter.add_read(static_cast<int64_t>(first_bytes + second_bytes));
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
