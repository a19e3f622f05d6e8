// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_geometry.h"

#include <algorithm>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kSmallestShare = int64_t{128} << 10;
constexpr int64_t kMostRows = 4096;  // keeps the maxima of a tile of short rows small

int64_t row_bytes(const SourceTensor& tensor) {
  return ceil_div(tensor.bytes(), std::max<int64_t>(1, tensor.rows()));
}

/// The least that a worker must hold at once of this piece, its scales or its second copy.
int64_t least_bytes(const Piece& piece) {
  int64_t least = row_bytes(*piece.source);
  if (piece.scales != nullptr) least = std::max(least, row_bytes(*piece.scales));
  if (piece.twin != nullptr) least = std::max(least, row_bytes(*piece.source) + row_bytes(*piece.twin));
  return least;
}

int64_t scratch_of(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t rows = vector ? 1 : std::min(piece.rows, tile_length(piece, vector, geometry));
  return (rows + 1) * maxima_per_row(piece);
}

}  // namespace

int64_t maxima_per_row(const Piece& piece) {
  const bool grid = piece.kind == PieceKind::kQuantize && !piece.rule.raw_cast &&
                    piece.rule.granularity == Granularity::kBlock;
  return grid ? ceil_div(piece.cols, kScaleBlock) : 1;
}

int64_t tile_length(const Piece& piece, bool vector, const TileGeometry& geometry) {
  const int64_t one = row_bytes(*piece.source);  // of a vector's element, too
  const int64_t fits = std::max<int64_t>(1, geometry.tile_bytes / std::max<int64_t>(1, one));
  return vector ? fits : std::min(fits, kMostRows);
}

TileGeometry tile_geometry(const Bindings& bindings, const LoadOptions& options, int threads) {
  int64_t least = 1;
  int64_t largest = 1;
  const Piece* widest = nullptr;
  for (const Piece& piece : bindings.pieces) {
    if (least_bytes(piece) > least) widest = &piece;
    least = std::max(least, least_bytes(piece));
    largest = std::max(largest, piece.source->bytes());
  }
  TileGeometry geometry;
  const int64_t share = std::max(kSmallestShare, kLoadingBudget / threads - kSmallestShare);
  geometry.tile_bytes = round_up(std::max(least, std::min({options.tile_bytes, share, largest})), 64);
  for (const Piece& piece : bindings.pieces) {
    const bool vector = bindings.destinations[piece.destination].is_vector();
    geometry.scratch_floats = std::max(geometry.scratch_floats, scratch_of(piece, vector, geometry));
  }
  if (widest != nullptr && geometry.worker_bytes() > kLoadingBudget) {
    throw ConfigError(place(*widest->source) + ": one row needs " + std::to_string(geometry.worker_bytes()) +
                      " bytes while loading, at most " + std::to_string(kLoadingBudget) + " are used");
  }
  geometry.workers =
      static_cast<int>(std::clamp<int64_t>(kLoadingBudget / geometry.worker_bytes(), 1, threads));
  return geometry;
}

int64_t planned_read_bytes(const Piece& piece, bool vector, const TileGeometry& geometry) {
  int64_t bytes = piece.source->bytes() + (piece.scales != nullptr ? piece.scales->bytes() : 0);
  if (piece.twin != nullptr) bytes += piece.source->bytes() + piece.twin->bytes();
  if (piece.kind != PieceKind::kQuantize || piece.rule.raw_cast) return bytes;
  const int64_t length = tile_length(piece, vector, geometry);
  const bool twice =
      (piece.rule.granularity == Granularity::kTensor && piece.rows > length) ||
      (piece.rule.granularity == Granularity::kBlock && std::min(kScaleBlock, piece.rows) > length);
  if (!twice) return bytes;
  // A last band that fits a tile is read once.
  const int64_t tail = piece.rule.granularity == Granularity::kBlock ? piece.rows % kScaleBlock : 0;
  const int64_t once = tail <= length ? tail : 0;
  return bytes + piece.source->bytes() / piece.rows * (piece.rows - once);
}

}  // namespace octet
