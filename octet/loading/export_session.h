// SPDX-License-Identifier: Apache-2.0
/// One run of an exporter: the tiles of all weights in the order of the files, each quantized into a buffer
/// and written at its place.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "octet/checkpoint/checkpoint_writer.h"
#include "octet/loading/export_plan.h"
#include "octet/loading/load_ahead.h"
#include "octet/loading/load_meter.h"
#include "octet/loading/load_options.h"
#include "octet/loading/tile_filler.h"

namespace octet {

class ExportSession {
 public:
  struct Parts {
    Backend& backend;
    const WeightSource& source;
    const Bindings& bindings;
    const TileGeometry& geometry;
    const ExportPlan& plan;
    LoadMeter& meter;
    const LoadOptions& load;
  };
  ExportSession(const Parts& parts, const std::filesystem::path& folder);

  /// Writes everything, or throws.
  void run();
  /// One for each piece of the bindings.
  [[nodiscard]] std::span<const TileResult> results() const { return results_; }

 private:
  /// What one worker holds: a tile as it is read, and as it is written.
  struct Worker {
    TileBuffer in;
    Buffer out;
  };

  void write_batch(PieceRange batch);
  void adopt_scales(size_t piece);
  void measure(PieceRange batch);
  void fill(PieceRange batch);
  void check_values(PieceRange batch) const;
  void write_scales(size_t piece);
  [[nodiscard]] TileResult write_tile(const Tile& tile, const Worker& worker);
  [[nodiscard]] Tile whole(size_t piece) const;
  /// The same rows of the only piece that a window has.
  [[nodiscard]] static Tile in_window(const Tile& tile);
  void write_copies();
  void for_each(size_t count, const std::function<void(size_t, const Worker&)>& body);
  [[nodiscard]] TileFiller filler(const Bindings& bindings) const;
  [[nodiscard]] bool drops_cache() const;

  Parts parts_;
  CheckpointWriter writer_;
  std::vector<Worker> workers_;
  std::optional<LoadAhead> ahead_;          // while tiles are read
  std::vector<std::vector<float>> scales_;  // of each piece, while its batch is worked on
  std::vector<TileResult> results_;
};

}  // namespace octet
