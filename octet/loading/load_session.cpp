// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_session.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/loading/shared_scales.h"
#include "octet/loading/value_checks.h"

namespace octet {

LoadSession::LoadSession(const Parts& parts)
    : parts_(parts),
      filler_({.backend = parts.backend,
               .source = parts.source,
               .bindings = parts.bindings,
               .geometry = parts.geometry,
               .meter = parts.meter}),
      views_(parts.bindings.destinations.size()),
      taken_(parts.bindings.destinations.size(), false),
      results_(parts.bindings.pieces.size()) {}

LoadSession::~LoadSession() {
  if (!committed_) parts_.storage.release();
}

void LoadSession::run() {
  if (parts_.bindings.pieces.empty()) return;
  fail_together(parts_.peers, [&] {
    for (int i = 0; i < parts_.geometry.workers; ++i) buffers_.emplace_back(parts_.backend, parts_.geometry);
    begin_reading();
    parts_.meter.report();
  });
  for (size_t first = 0; first < parts_.bindings.pieces.size();) {
    const PieceRange batch = next_batch(parts_.bindings.pieces, first);
    load_batch(batch);
    first = batch.second;
  }
  stream_.reset();
  slots_.reset();
  ahead_.reset();
  fail_together(parts_.peers, [&] {
    compare_twins();
    parts_.meter.report();
    if (parts_.meter.cancelled()) throw Interrupted("loading was stopped");
    input_scales_ =
        input_scales(parts_.backend, parts_.storage, parts_.bindings.destinations, parts_.source.describe());
    finite_ = finite_destinations();
  });
  buffers_.clear();
}

void LoadSession::commit() noexcept {
  committed_ = true;
  parts_.storage.commit();
  for (const InputScale& input : input_scales_) input.matrix->input_scale = input.scale;
  for (size_t i = 0; i < finite_.size(); ++i) {
    auto* const* matrix = std::get_if<StoredMatrix*>(&parts_.bindings.destinations[i].target);
    if (matrix != nullptr && finite_[i]) (*matrix)->matrix.set_codes_finite();
  }
}

std::vector<bool> LoadSession::finite_destinations() const {
  std::vector<bool> finite(views_.size(), true);
  for (size_t i = 0; i < results_.size(); ++i) {
    const Piece& piece = parts_.bindings.pieces[i];
    if (piece.kind != PieceKind::kQuantize || results_[i].nonfinite > 0) finite[piece.destination] = false;
  }
  return finite;
}

void LoadSession::begin_reading() {
  for (size_t i = 0; i < parts_.bindings.pieces.size(); ++i) {
    first_tile_.push_back(tiles_.size());
    filler_.append_tiles(i, tiles_);
  }
  first_tile_.push_back(tiles_.size());
  const TileGeometry& geometry = parts_.geometry;
  if (geometry.slots == 0) {
    ahead_.emplace(parts_.source, parts_.bindings, parts_.read_ahead);
    return;
  }
  slots_ = Buffer(parts_.backend.allocator(), parts_.backend.ledger(), "loading", geometry.slots_bytes());
  void* memory = slots_.data();
  auto space = static_cast<size_t>(slots_.bytes());
  const auto bytes = static_cast<size_t>(geometry.slots * geometry.slot_bytes());
  std::align(DirectReader::kAlignment, bytes, memory, space);
  stream_.emplace(TileStream::Parts{.tiles = tiles_.size(),
                                    .part_of = [this](size_t i) { return part_of(tiles_[i]); },
                                    .memory = {static_cast<std::byte*>(memory), bytes},
                                    .slot_bytes = geometry.slot_bytes(),
                                    .workers = geometry.workers,
                                    .window = parts_.read_ahead,
                                    .keep_out = parts_.drop_page_cache});
}

TileStream::Part LoadSession::part_of(const Tile& tile) const {
  const Piece& piece = parts_.bindings.pieces[tile.piece];
  const TileFiller::SourceBlock block = filler_.source_block(tile);
  const auto extent = parts_.source.extent(*piece.source, block.rows, block.cols);
  if (!extent) return {};
  const int64_t size = dtype_size(piece.source->dtype);
  return {.extent = *extent,
          .direct = parts_.source.in_file_order(*piece.source) &&
                    extent->length == block.rows.size() * block.cols.size() * size &&
                    extent->length <= parts_.geometry.tile_bytes && extent->offset % size == 0 &&
                    piece.twin == nullptr};
}

void LoadSession::load_batch(PieceRange batch) {
  fail_together(parts_.peers, [&] {
    for (size_t i = batch.first; i < batch.second; ++i) {
      const size_t destination = parts_.bindings.pieces[i].destination;
      if (!taken_[destination]) take_memory(destination);
      filler_.adopt_scales(i, buffers_.front(), views_[destination]);
    }
    measure(batch);
  });
  set_scales(batch);
  fail_together(parts_.peers, [&] {
    fill(batch);
    check_values(batch);
  });
  if (!parts_.drop_page_cache) return;
  for (size_t i = batch.first; i < batch.second; ++i)
    parts_.source.drop_cache(*parts_.bindings.pieces[i].source);
}

void LoadSession::set_scales(PieceRange batch) {
  for (size_t i = batch.first; i < batch.second; ++i) {
    if (!filler_.needs_measuring(i)) continue;
    const Piece& piece = parts_.bindings.pieces[i];
    const QuantMatrixView& view = views_[piece.destination];
    float* const maxima = filler_.maxima(i, view);
    if (piece.shared_scales)
      share_maxima(piece, *parts_.peers, maxima != nullptr ? maxima : &results_[i].amax);
    filler_.set_scales(i, results_[i].amax, view);
  }
}

void LoadSession::measure(PieceRange batch) {
  std::vector<Tile> tiles;
  for (size_t i = batch.first; i < batch.second; ++i) {
    if (filler_.needs_measuring(i)) filler_.append_tiles(i, tiles);
  }
  std::vector<TileResult> found(tiles.size());
  for_each_tile(tiles.size(), [&](size_t i, const TileBuffer& buffer) {
    if (ahead_) ahead_->wait_for(tiles[i]);
    found[i] = filler_.measure(tiles[i], buffer, view_of_piece(tiles[i].piece));
  });
  for (size_t i = 0; i < tiles.size(); ++i) results_[tiles[i].piece].add(found[i]);
}

// Results are added in the order of the tiles, so that the report does not depend on which thread was faster.
void LoadSession::fill(PieceRange batch) {
  const size_t first = first_tile_[batch.first];
  const std::span<const Tile> tiles = std::span(tiles_).subspan(first, first_tile_[batch.second] - first);
  std::vector<TileResult> found(tiles.size());
  for_each_tile(tiles.size(), [&](size_t i, TileBuffer& buffer) {
    if (ahead_) ahead_->wait_for(tiles[i]);
    const std::optional<TileLoan> loan =
        stream_ ? std::make_optional<TileLoan>(*stream_, first + i) : std::nullopt;
    buffer.ready = loan ? loan->bytes() : std::span<const std::byte>();
    found[i] = filler_.fill(tiles[i], buffer, view_of_piece(tiles[i].piece));
  });
  for (size_t i = 0; i < tiles.size(); ++i) results_[tiles[i].piece].add(found[i]);
}

void LoadSession::check_values(PieceRange batch) const {
  octet::check_values(parts_.bindings, results_, {.first = batch.first, .last = batch.second},
                      {.source = parts_.source.describe(), .allow_nonfinite = parts_.allow_nonfinite});
}

void LoadSession::compare_twins() {
  for (size_t i = 0; i < parts_.bindings.pieces.size(); ++i) {
    const Piece& piece = parts_.bindings.pieces[i];
    if (piece.twin == nullptr) continue;
    const bool vector = parts_.bindings.destinations[piece.destination].is_vector();
    const int64_t rows = vector ? piece.cols : piece.rows;
    const int64_t bytes_per_row = (vector ? 1 : std::max<int64_t>(1, piece.cols)) *
                                  (dtype_size(piece.source->dtype) + dtype_size(piece.twin->dtype));
    const int64_t step = std::max<int64_t>(1, parts_.geometry.tile_bytes / bytes_per_row);
    std::vector<Tile> tiles;
    for (int64_t begin = 0; begin < rows; begin += step) {
      tiles.push_back({.piece = i, .begin = begin, .end = std::min(rows, begin + step)});
    }
    std::vector<TileFiller::Difference> found(tiles.size());
    for_each_tile(tiles.size(), [&](size_t t, const TileBuffer& buffer) {
      found[t] = filler_.compare_twin(tiles[t], buffer);
    });
    TwinDifference difference{.name = piece.source->name, .twin = piece.twin->name};
    for (const TileFiller::Difference& part : found) {
      difference.differing += part.differing;
      difference.max_abs_difference = std::max(difference.max_abs_difference, part.max_abs);
    }
    twins_.push_back(std::move(difference));
    if (parts_.drop_page_cache) parts_.source.drop_cache(*piece.twin);
  }
}

void LoadSession::take_memory(size_t index) {
  views_[index] = parts_.storage.take(parts_.bindings.destinations[index]);
  taken_[index] = true;
}

// Each body of the pool's loop is a worker that owns one buffer and takes tiles until there are none: so
// there may be fewer buffers than threads.
void LoadSession::for_each_tile(size_t count, const std::function<void(size_t, TileBuffer&)>& body) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto workers = static_cast<int64_t>(std::min(buffers_.size(), count));
  parts_.backend.threads().parallel_for(workers, [&](int64_t worker, int /*thread*/) {
    try {
      for (size_t i = next++; i < count && !failed && !parts_.meter.cancelled(); i = next++) {
        body(i, buffers_[static_cast<size_t>(worker)]);
        parts_.meter.tick();
      }
    } catch (...) {
      failed = true;
      throw;
    }
  });
  if (parts_.meter.cancelled()) throw Interrupted("loading was stopped");
}

}  // namespace octet
