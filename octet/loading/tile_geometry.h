// SPDX-License-Identifier: Apache-2.0
/// How large the pieces are in which weights are read, and how many workers may hold one at a time.
#pragma once

#include <cstdint>

#include "octet/base/direct_reader.h"
#include "octet/loading/binding.h"
#include "octet/loading/load_options.h"

namespace octet {

/// Each worker holds one tile of source bytes and some floats for maxima; tiles that are read past the page
/// cache wait in slots.
struct TileGeometry {
  int workers = 1;
  int slots = 0;
  int64_t tile_bytes = 0;
  int64_t scratch_floats = 0;

  [[nodiscard]] int64_t worker_bytes() const {
    return tile_bytes + scratch_floats * static_cast<int64_t>(sizeof(float));
  }
  [[nodiscard]] int64_t slot_bytes() const { return DirectReader::buffer_bytes(tile_bytes); }
  /// Of all slots, with what it takes to align them.
  [[nodiscard]] int64_t slots_bytes() const {
    return slots == 0 ? 0 : slots * slot_bytes() + DirectReader::kAlignment;
  }
  [[nodiscard]] int64_t total_bytes() const { return workers * worker_bytes() + slots_bytes(); }
};

/// Tiles near `options.tile_bytes`, smaller where many threads share the budget, never less than a row, never
/// more than the largest tensor; workers as many as the budget allows. Throws ConfigError naming a weight of
/// which not even one row fits kLoadingBudget.
[[nodiscard]] TileGeometry tile_geometry(const Bindings& bindings, const LoadOptions& options, int threads);
/// The same with slots, for a load that may read past the page cache: no option against it, files, no piece
/// of which all tiles are read before the first is filled, and slots within kLoadingBudget.
[[nodiscard]] TileGeometry load_geometry(const Bindings& bindings, const WeightSource& source,
                                         const LoadOptions& options, int threads);

/// Rows of a matrix, or elements of a vector, that are read at a time.
[[nodiscard]] int64_t tile_length(const Piece& piece, bool vector, const TileGeometry& geometry);

/// Rows of the largest tile of a matrix (elements, of a vector): those that are read at a time, or a band of
/// blocks of which fewer fit.
[[nodiscard]] int64_t largest_tile(const Piece& piece, bool vector, const TileGeometry& geometry);

/// Whether codes are made with a grid of scales: then tiles hold whole bands of blocks.
[[nodiscard]] bool makes_grid(const Piece& piece);
/// Runs of columns that have a maximum of their own: 1, or the columns of the grid that is made.
[[nodiscard]] int64_t maxima_per_row(const Piece& piece);
/// The scales of an adopted piece that this rank reads: rows and columns of their tensor, which is seen as
/// [rows(), cols()].
struct ScaleBlock {
  IndexRange rows;
  IndexRange cols;
};
[[nodiscard]] ScaleBlock adopted_scales(const Piece& piece);

/// Bytes that loading this piece reads from the source: a scale that no tile or no rank sees whole needs the
/// values twice.
[[nodiscard]] int64_t planned_read_bytes(const Piece& piece, bool vector, const TileGeometry& geometry);

}  // namespace octet
