// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/export_session.h"

#include <algorithm>
#include <atomic>

#include "octet/base/checked_math.h"
#include "octet/base/cpu_features.h"
#include "octet/base/error.h"
#include "octet/loading/value_checks.h"

namespace octet {
namespace {

/// Rows (or elements of a vector) [begin, end) of one piece as a matrix of their own: where tiles are made,
/// and, without data, where the scales of a whole piece are. The filler sees a piece whose first row lies
/// `begin` rows above it.
class Window {
 public:
  Window(const Bindings& bindings, const Tile& tile, std::byte* data, std::vector<float>& scales) {
    Piece piece = bindings.pieces[tile.piece];
    piece.destination = 0;
    piece.offset = -tile.begin;
    bindings_.pieces = {piece};
    bindings_.destinations = {bindings.destinations[bindings.pieces[tile.piece].destination]};
    const Destination& destination = bindings_.destinations.front();
    const bool vector = destination.is_vector();
    const int64_t length = tile.end - tile.begin;
    view_ = {.data = data,
             .dtype = destination.spec.dtype,
             .rows = vector ? 1 : length,
             .cols = vector ? length : piece.cols,
             .scale_kind = destination.spec.scale_kind,
             .scales = scales.data()};
    if (view_.scale_kind == ScaleKind::kRow) view_.scales += tile.begin;
    if (view_.scale_kind != ScaleKind::kGrid) return;
    append_scale_part(parts_, view_.rows, view_.cols, piece.block.rows, piece.block.cols);
    view_.parts = parts_;
    view_.scales += tile.begin / piece.block.rows * parts_.front().grid_cols;
  }
  Window(const Window&) = delete;  // the view points into it
  Window& operator=(const Window&) = delete;

  [[nodiscard]] const Bindings& bindings() const { return bindings_; }
  [[nodiscard]] const QuantMatrixView& view() const { return view_; }

 private:
  Bindings bindings_;
  std::vector<ScalePart> parts_;
  QuantMatrixView view_;
};

int64_t length_of(const Bindings& bindings, size_t index) {
  const Piece& piece = bindings.pieces[index];
  return bindings.destinations[piece.destination].is_vector() ? piece.cols : piece.rows;
}

}  // namespace

ExportSession::ExportSession(const Parts& parts, const std::filesystem::path& folder)
    : parts_(parts),
      writer_(folder, parts.plan.shards),
      scales_(parts.bindings.pieces.size()),
      results_(parts.bindings.pieces.size()) {}

void ExportSession::run() {
  for (int i = 0; i < parts_.geometry.workers; ++i) {
    workers_.push_back({.in = TileBuffer(parts_.backend, parts_.geometry),
                        .out = Buffer(parts_.backend.allocator(), parts_.backend.ledger(), "loading",
                                      parts_.plan.tile_bytes)});
  }
  ahead_.emplace(parts_.source, parts_.bindings,
                 read_ahead_window(available_memory_bytes(), parts_.geometry.total_bytes(), 1));
  parts_.meter.report();
  for (size_t first = 0; first < parts_.bindings.pieces.size();) {
    const PieceRange batch = next_batch(parts_.bindings.pieces, first);
    write_batch(batch);
    first = batch.second;
  }
  ahead_.reset();
  write_copies();
  parts_.meter.report();
  if (parts_.meter.cancelled()) throw Interrupted("the export was stopped");
  writer_.finish();
  workers_.clear();
}

void ExportSession::write_batch(PieceRange batch) {
  for (size_t i = batch.first; i < batch.second; ++i) {
    scales_[i].resize(static_cast<size_t>(parts_.plan.pieces[i].scale_count));
    adopt_scales(i);
  }
  measure(batch);
  fill(batch);
  check_values(batch);
  for (size_t i = batch.first; i < batch.second; ++i) {
    write_scales(i);
    scales_[i] = {};
    if (drops_cache()) parts_.source.drop_cache(*parts_.bindings.pieces[i].source);
  }
  writer_.finish_full_shards();
}

bool ExportSession::drops_cache() const {
  if (parts_.load.drop_page_cache) return *parts_.load.drop_page_cache;
  return available_memory_bytes() < parts_.plan.bytes_before;
}

TileFiller ExportSession::filler(const Bindings& bindings) const {
  return TileFiller({.backend = parts_.backend,
                     .source = parts_.source,
                     .bindings = bindings,
                     .geometry = parts_.geometry,
                     .meter = parts_.meter});
}

void ExportSession::adopt_scales(size_t index) {
  const Window window(parts_.bindings, whole(index), nullptr, scales_[index]);
  filler(window.bindings()).adopt_scales(0, workers_.front().in, window.view());
}

void ExportSession::measure(PieceRange batch) {
  const TileFiller all = filler(parts_.bindings);
  std::vector<Tile> tiles;
  for (size_t i = batch.first; i < batch.second; ++i) {
    if (all.needs_measuring(i)) all.append_tiles(i, tiles);
  }
  std::vector<TileResult> found(tiles.size());
  for_each(tiles.size(), [&](size_t i, const Worker& worker) {
    ahead_->wait_for(tiles[i]);
    const Window window(parts_.bindings, tiles[i], nullptr, scales_[tiles[i].piece]);
    found[i] = filler(window.bindings()).measure(in_window(tiles[i]), worker.in, window.view());
  });
  for (size_t i = 0; i < tiles.size(); ++i) results_[tiles[i].piece].add(found[i]);
  for (size_t i = batch.first; i < batch.second; ++i) {
    if (!all.needs_measuring(i)) continue;
    const Window window(parts_.bindings, whole(i), nullptr, scales_[i]);
    filler(window.bindings()).set_scales(0, results_[i].amax, window.view());
  }
}

// Results are added in the order of the tiles, so that the report does not depend on which thread was faster.
void ExportSession::fill(PieceRange batch) {
  const TileFiller all = filler(parts_.bindings);
  std::vector<Tile> tiles;
  for (size_t i = batch.first; i < batch.second; ++i) all.append_tiles(i, tiles);
  std::vector<TileResult> found(tiles.size());
  for_each(tiles.size(), [&](size_t i, const Worker& worker) { found[i] = write_tile(tiles[i], worker); });
  for (size_t i = 0; i < tiles.size(); ++i) results_[tiles[i].piece].add(found[i]);
}

TileResult ExportSession::write_tile(const Tile& tile, const Worker& worker) {
  ahead_->wait_for(tile);
  const Window window(parts_.bindings, tile, worker.out.data(), scales_[tile.piece]);
  const QuantMatrixView& view = window.view();
  const TileResult result = filler(window.bindings()).fill(in_window(tile), worker.in, view);
  const int64_t bytes = view.rows * view.cols * dtype_size(view.dtype);
  writer_.write(parts_.plan.pieces[tile.piece].weight, bytes / (tile.end - tile.begin) * tile.begin,
                {view.data, static_cast<size_t>(bytes)});
  return result;
}

Tile ExportSession::whole(size_t index) const {
  return {.piece = index, .begin = 0, .end = length_of(parts_.bindings, index)};
}

Tile ExportSession::in_window(const Tile& tile) {
  return {.piece = 0, .begin = tile.begin, .end = tile.end};
}

void ExportSession::check_values(PieceRange batch) const {
  const auto [first, last] = batch;
  octet::check_values(parts_.bindings, results_, {.first = first, .last = last},
                      {.source = parts_.source.describe(), .allow_nonfinite = parts_.load.allow_nonfinite});
}

void ExportSession::write_scales(size_t index) {
  const ExportedPiece& piece = parts_.plan.pieces[index];
  if (!piece.scales) return;
  const auto wanted = static_cast<size_t>(tensor_bytes(parts_.plan.tensors[*piece.scales]));
  writer_.write(*piece.scales, 0, std::as_bytes(std::span(scales_[index])).first(wanted));
}

void ExportSession::write_copies() {
  for (const ExportedCopy& copy : parts_.plan.copies) {
    const SourceTensor& tensor = *copy.source;
    if (tensor.bytes() == 0) continue;
    const int64_t row = tensor.bytes() / tensor.rows();
    if (row > parts_.geometry.tile_bytes) {
      throw ConfigError(place(tensor) + ": one row has " + std::to_string(row) + " bytes, at most " +
                        std::to_string(parts_.geometry.tile_bytes) + " are copied at a time");
    }
    const int64_t step = std::max<int64_t>(1, parts_.geometry.tile_bytes / row);
    for_each(static_cast<size_t>(ceil_div(tensor.rows(), step)), [&](size_t i, const Worker& worker) {
      const int64_t begin = static_cast<int64_t>(i) * step;
      const int64_t end = std::min(tensor.rows(), begin + step);
      const auto bytes = worker.in.bytes().first(static_cast<size_t>((end - begin) * row));
      parts_.source.read_rows(tensor, begin, end, bytes);
      parts_.meter.add_read(static_cast<int64_t>(bytes.size()));
      writer_.write(copy.tensor, begin * row, bytes);
    });
    if (drops_cache()) parts_.source.drop_cache(tensor);
  }
}

// As many bodies as there are workers, each with its own buffers, take indices until there are none.
void ExportSession::for_each(size_t count, const std::function<void(size_t, const Worker&)>& body) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto workers = static_cast<int64_t>(std::min(workers_.size(), count));
  parts_.backend.threads().parallel_for(workers, [&](int64_t worker, int /*thread*/) {
    try {
      for (size_t i = next++; i < count && !failed && !parts_.meter.cancelled(); i = next++) {
        body(i, workers_[static_cast<size_t>(worker)]);
        parts_.meter.tick();
      }
    } catch (...) {
      failed = true;
      throw;
    }
  });
  if (parts_.meter.cancelled()) throw Interrupted("the export was stopped");
}

}  // namespace octet
