// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_geometry.h"

#include <algorithm>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/loading/shared_scales.h"

namespace octet {
namespace {

constexpr int64_t kSmallestShare = int64_t{128} << 10;
// Past the page cache a disk wants to be asked for much at a time, and what it has delivered should still be
// in the processor's cache when it is used.
constexpr int64_t kLeastStreamed = int64_t{1} << 20;
constexpr int64_t kMostStreamed = int64_t{2} << 20;
constexpr int64_t kSlotsAhead = 2;   // that are filled while workers hold the others
constexpr int64_t kMostRows = 4096;  // keeps the maxima of a tile of short rows small

int64_t row_bytes(const SourceTensor& tensor) {
  return ceil_div(tensor.bytes(), std::max<int64_t>(1, tensor.rows()));
}

/// Of the source, for as many columns as the slice has; of one element of a vector.
int64_t row_bytes(const Piece& piece, bool vector, const SourceTensor& source) {
  return (vector ? 1 : piece.cols) * dtype_size(source.dtype);
}

/// The least that a worker must hold at once of this piece, its scales or its second copy.
int64_t least_bytes(const Piece& piece, bool vector) {
  int64_t least = row_bytes(piece, vector, *piece.source);
  if (piece.scales != nullptr) least = std::max(least, row_bytes(*piece.scales));
  if (piece.twin != nullptr)
    least = std::max(least, row_bytes(piece, vector, *piece.source) + row_bytes(piece, vector, *piece.twin));
  return least;
}

int64_t scratch_of(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t rows = vector ? 1 : std::min(piece.rows, tile_length(piece, vector, geometry));
  return (rows + 1) * maxima_per_row(piece);
}

/// Of the source, whether something of it lies in files and nothing of it is read twice by design.
bool may_read_past_cache(const Bindings& bindings, const WeightSource& source, const LoadOptions& options) {
  if (options.drop_page_cache == false) return false;
  bool in_files = false;
  for (const Piece& piece : bindings.pieces) {
    const bool made = piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast;
    if (made && (piece.shared_scales || piece.rule.granularity == Granularity::kTensor)) return false;
    if (in_files || piece.rows == 0 || piece.cols == 0) continue;
    const IndexRange whole = {.begin = 0, .end = piece.source->cols()};
    in_files = source.extent(*piece.source, {.begin = 0, .end = piece.source->rows()}, whole).has_value();
  }
  return in_files;
}

int64_t worker_share(int64_t budget, int threads) {
  return std::max(kSmallestShare, budget / threads - kSmallestShare);
}

/// Workers that hold at most `budget` together, or one with the largest row.
TileGeometry worker_geometry(const Bindings& bindings, const LoadOptions& options, int threads,
                             int64_t budget) {
  int64_t least = 1;
  int64_t largest = 1;
  const Piece* widest = nullptr;
  for (const Piece& piece : bindings.pieces) {
    const bool vector = bindings.destinations[piece.destination].is_vector();
    if (least_bytes(piece, vector) > least) widest = &piece;
    least = std::max(least, least_bytes(piece, vector));
    largest = std::max(largest, piece.bytes());
  }
  TileGeometry geometry;
  const int64_t most = std::min({options.tile_bytes, worker_share(budget, threads), largest});
  geometry.tile_bytes = round_up(std::max(least, most), 64);
  for (const Piece& piece : bindings.pieces) {
    const bool vector = bindings.destinations[piece.destination].is_vector();
    geometry.scratch_floats = std::max(geometry.scratch_floats, scratch_of(piece, vector, geometry));
  }
  if (widest != nullptr && geometry.worker_bytes() > kLoadingBudget) {
    throw ConfigError(place(*widest->source) + ": one row needs " + std::to_string(geometry.worker_bytes()) +
                      " bytes while loading, at most " + std::to_string(kLoadingBudget) + " are used");
  }
  geometry.workers = static_cast<int>(std::clamp<int64_t>(budget / geometry.worker_bytes(), 1, threads));
  return geometry;
}

}  // namespace

bool makes_grid(const Piece& piece) {
  return piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast &&
         piece.rule.granularity == Granularity::kBlock;
}

int64_t maxima_per_row(const Piece& piece) {
  return makes_grid(piece) ? ceil_div(piece.cols + piece.first_col % kScaleBlock, kScaleBlock) : 1;
}

ScaleBlock adopted_scales(const Piece& piece) {
  const SourceTensor& scales = *piece.scales;
  if (piece.rows == 0) return {};
  switch (piece.file_scales) {
    case FileScales::kRows:
      return {.rows = {.begin = piece.first_row, .end = piece.first_row + piece.rows},
              .cols = {.begin = 0, .end = scales.cols()}};
    case FileScales::kGrid: {
      const ScaleTable table = scale_table(piece);
      return {.rows = table.own_rows, .cols = table.own_cols};
    }
    default:
      return {.rows = {.begin = 0, .end = scales.rows()}, .cols = {.begin = 0, .end = scales.cols()}};
  }
}

int64_t tile_length(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t one = row_bytes(piece, vector, *piece.source);
  const int64_t fits = std::max<int64_t>(1, geometry.tile_bytes / std::max<int64_t>(1, one));
  return vector ? fits : std::min(fits, kMostRows);
}

TileGeometry tile_geometry(const Bindings& bindings, const LoadOptions& options, int threads) {
  return worker_geometry(bindings, options, threads, kLoadingBudget);
}

TileGeometry load_geometry(const Bindings& bindings, const WeightSource& source, const LoadOptions& options,
                           int threads) {
  constexpr int64_t kHalf = kLoadingBudget / 2;
  const bool few_threads = worker_share(kHalf, threads) >= kLeastStreamed;
  if (few_threads && may_read_past_cache(bindings, source, options)) {
    LoadOptions smaller = options;
    smaller.tile_bytes = std::min(options.tile_bytes, kMostStreamed);
    TileGeometry geometry = worker_geometry(bindings, smaller, threads, kHalf);
    const int64_t left = kLoadingBudget - geometry.total_bytes() - DirectReader::kAlignment;
    geometry.slots = static_cast<int>(std::min(left / geometry.slot_bytes(), geometry.workers + kSlotsAhead));
    if (geometry.slots > geometry.workers) return geometry;
  }
  return tile_geometry(bindings, options, threads);
}

int64_t planned_read_bytes(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t own = piece.bytes();
  int64_t bytes = own;
  if (piece.scales != nullptr) {
    const ScaleBlock scales = adopted_scales(piece);
    bytes += scales.rows.size() * scales.cols.size() * dtype_size(piece.scales->dtype);
  }
  if (piece.twin != nullptr) bytes += own + piece.rows * piece.cols * dtype_size(piece.twin->dtype);
  if (piece.kind != PieceKind::kQuantize || piece.rule.raw_cast) return bytes;
  if (piece.shared_scales) return bytes + own;
  const int64_t length = tile_length(piece, vector, geometry);
  const bool twice = (piece.rule.granularity == Granularity::kTensor && piece.rows > length) ||
                     (makes_grid(piece) && std::min(kScaleBlock, piece.rows) > length);
  if (!twice) return bytes;
  // A last band that fits a tile is read once.
  const int64_t tail = makes_grid(piece) ? piece.rows % kScaleBlock : 0;
  const int64_t once = tail <= length ? tail : 0;
  return bytes + own / piece.rows * (piece.rows - once);
}

int64_t largest_tile(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t length = tile_length(piece, vector, geometry);
  return makes_grid(piece) ? std::max(kScaleBlock, length / kScaleBlock * kScaleBlock) : length;
}

}  // namespace octet
