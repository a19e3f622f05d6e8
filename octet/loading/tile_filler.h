// SPDX-License-Identifier: Apache-2.0
/// Moves one tile at a time from the source into its destination: read, measure, quantize or copy. Knows no
/// order and no threads; `WeightLoader` hands it the tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/loading/binding.h"
#include "octet/loading/load_meter.h"
#include "octet/loading/tile_geometry.h"

namespace octet {

/// Rows [begin, end) of a piece, or elements of a vector.
struct Tile {
  size_t piece = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

/// What was seen in a tile, or in all tiles of a piece.
struct TileResult {
  QuantizeStats stats;
  float amax = 0;
  int64_t nonfinite = 0;
  int64_t first_nonfinite_row = -1;  ///< of the tensor
  bool overflow = false;             ///< a finite value that the compute dtype cannot hold

  /// `other` lies behind this.
  void add(const TileResult& other);
};

/// The memory of one worker.
class TileBuffer {
 public:
  TileBuffer(Backend& backend, const TileGeometry& geometry);
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {buffer_.data(), static_cast<size_t>(tile_bytes_)};
  }
  [[nodiscard]] float* maxima() const { return reinterpret_cast<float*>(buffer_.data() + tile_bytes_); }

  /// The bytes of the tile that is filled next, where somebody has read them already; else empty.
  std::span<const std::byte> ready;

 private:
  Buffer buffer_;
  int64_t tile_bytes_ = 0;
};

/// Stateless but for what it points to; its functions may run at once on disjoint tiles.
class TileFiller {
 public:
  struct Parts {
    Backend& backend;
    const WeightSource& source;
    const Bindings& bindings;
    const TileGeometry& geometry;
    LoadMeter& meter;
  };
  explicit TileFiller(const Parts& parts) : parts_(parts) {}

  /// The tiles of a piece, in order. A tile of a grid holds whole bands of blocks.
  void append_tiles(size_t piece, std::vector<Tile>& tiles) const;
  /// The rows and columns of its tensor that a tile is; elements of a vector are rows of one column.
  struct SourceBlock {
    IndexRange rows;
    IndexRange cols;
  };
  [[nodiscard]] SourceBlock source_block(const Tile& tile) const;
  /// Whether `measure` must have seen all tiles of this piece before the first is filled.
  [[nodiscard]] bool needs_measuring(size_t piece) const;

  /// The largest absolute value and what is not finite. Where a piece has more scales than one, the maxima of
  /// each are left in the place of the scales.
  [[nodiscard]] TileResult measure(const Tile& tile, const TileBuffer& buffer,
                                   const QuantMatrixView& into) const;
  /// The scales of a measured piece, in row-major order: maxima until `set_scales`. nullptr where it has one
  /// for the whole tensor, or nothing of the tensor is here.
  [[nodiscard]] float* maxima(size_t piece, const QuantMatrixView& into) const;
  /// Makes scales of the maxima of a measured piece; `amax` is that of the whole tensor.
  void set_scales(size_t piece, float amax, const QuantMatrixView& into) const;
  /// Writes the tile into `into`, and its scales unless the piece was measured.
  [[nodiscard]] TileResult fill(const Tile& tile, const TileBuffer& buffer,
                                const QuantMatrixView& into) const;
  /// Copies the scales of an adopted piece, or puts 1 where its matrix wants scales and it has none.
  /// Throws FormatError when one is negative or not finite.
  void adopt_scales(size_t piece, const TileBuffer& buffer, const QuantMatrixView& into) const;
  /// How many values of the rows differ between a piece and its second copy, and by how much at the most.
  struct Difference {
    int64_t differing = 0;
    double max_abs = 0;
  };
  [[nodiscard]] Difference compare_twin(const Tile& rows, const TileBuffer& buffer) const;

 private:
  [[nodiscard]] ConstTensorView read(const Tile& tile, const TileBuffer& buffer) const;
  /// Reads `rows` of `tensor`, the piece's own or its second copy, into the beginning of `into`.
  void read_slice(const SourceTensor& tensor, const Tile& rows, std::span<std::byte> into) const;
  [[nodiscard]] TileResult measure(ConstTensorView x, const Tile& tile, const TileBuffer& buffer) const;
  /// Leaves the maxima of a tile of whole bands in the place of its scales; `x` is the last slice that was
  /// read.
  [[nodiscard]] TileResult measure_bands(const Tile& tile, const TileBuffer& buffer,
                                         const QuantMatrixView& into, ConstTensorView& x) const;
  [[nodiscard]] TileResult store(const Tile& tile, const TileBuffer& buffer,
                                 const QuantMatrixView& into) const;
  [[nodiscard]] TileResult quantize_rows(const Tile& tile, const TileBuffer& buffer,
                                         const QuantMatrixView& into) const;
  [[nodiscard]] TileResult quantize_slice(ConstTensorView x, const Tile& slice, const TileBuffer& buffer,
                                          const QuantMatrixView& into) const;
  [[nodiscard]] TileResult quantize_bands(const Tile& tile, const TileBuffer& buffer,
                                          const QuantMatrixView& into) const;
  /// With the scales that are there.
  [[nodiscard]] TileResult quantize_measured(const Tile& tile, const TileBuffer& buffer,
                                             const QuantMatrixView& into) const;
  [[nodiscard]] Tile slice_of(const Tile& tile, int64_t begin) const;
  /// Rows of scales from the file to `out`.
  void adopt_rows(const SourceTensor& scales, IndexRange rows, IndexRange cols, const TileBuffer& buffer,
                  float* out) const;
  [[nodiscard]] const Piece& piece(const Tile& tile) const { return parts_.bindings.pieces[tile.piece]; }
  [[nodiscard]] bool is_vector(size_t piece) const;
  [[nodiscard]] int64_t length(size_t piece) const;

  Parts parts_;
};

}  // namespace octet
