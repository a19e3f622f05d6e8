// SPDX-License-Identifier: Apache-2.0
/// One run of a loader: takes memory, hands tiles to the workers in the order of the files, and gives
/// everything back when something goes wrong.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "octet/loading/destination_storage.h"
#include "octet/loading/load_ahead.h"
#include "octet/loading/load_report.h"
#include "octet/loading/tile_filler.h"
#include "octet/loading/tile_stream.h"

namespace octet {

class LoadSession {
 public:
  struct Parts {
    Backend& backend;
    const WeightSource& source;
    const Bindings& bindings;
    const TileGeometry& geometry;
    LoadMeter& meter;
    DestinationStorage& storage;
    LoadPeers* peers = nullptr;
    bool allow_nonfinite = false;
    bool drop_page_cache = false;
    int64_t read_ahead = 0;  ///< bytes that may be fetched ahead of the workers
  };
  explicit LoadSession(const Parts& parts);
  /// Gives everything back that was not committed.
  ~LoadSession();
  LoadSession(const LoadSession&) = delete;
  LoadSession& operator=(const LoadSession&) = delete;

  /// Fills every destination; throws on all ranks alike.
  void run();
  /// After `run`: the destinations keep what they were filled with.
  void commit() noexcept;

  /// One for each piece of the bindings.
  [[nodiscard]] std::span<const TileResult> results() const { return results_; }
  [[nodiscard]] const std::vector<TwinDifference>& twins() const { return twins_; }

 private:
  void load_batch(PieceRange batch);
  void measure(PieceRange batch);
  /// Makes scales of what was measured, with the maxima of all ranks where they share scales.
  void set_scales(PieceRange batch);
  void fill(PieceRange batch);
  void check_values(PieceRange batch) const;
  void compare_twins();
  /// Whether every element of a destination was quantized here, from finite values.
  [[nodiscard]] std::vector<bool> finite_destinations() const;
  [[nodiscard]] const QuantMatrixView& view_of_piece(size_t piece) const {
    return views_[parts_.bindings.pieces[piece].destination];
  }
  void take_memory(size_t destination);
  /// Has the files read ahead of the workers.
  void begin_reading();
  [[nodiscard]] TileStream::Part part_of(const Tile& tile) const;
  /// Runs `body(tile index, buffer)` over the workers; throws Interrupted when the load is cancelled.
  void for_each_tile(size_t count, const std::function<void(size_t, TileBuffer&)>& body);

  Parts parts_;
  TileFiller filler_;
  std::vector<TileBuffer> buffers_;
  std::vector<Tile> tiles_;           // of all pieces, in order
  std::vector<size_t> first_tile_;    // of each piece, and the end
  Buffer slots_;                      // of stream_
  std::optional<TileStream> stream_;  // while tiles are read: this, or the next
  std::optional<LoadAhead> ahead_;
  std::vector<QuantMatrixView> views_;  // of each destination, once its memory is taken
  std::vector<bool> taken_;
  std::vector<TileResult> results_;
  std::vector<TwinDifference> twins_;
  std::vector<InputScale> input_scales_;
  std::vector<bool> finite_;
  bool committed_ = false;
};

}  // namespace octet
