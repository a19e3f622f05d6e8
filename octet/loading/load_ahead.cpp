// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_ahead.h"

#include <algorithm>
#include <optional>

namespace octet {
namespace {

constexpr int64_t kWindow = int64_t{128} << 20;
constexpr int64_t kSmallestWindow = int64_t{16} << 20;  // some tiles of two workers

}  // namespace

int64_t read_ahead_window(int64_t available, int64_t needed, int ranks) {
  if (available <= 0) return kWindow;
  const int64_t window = std::min(kWindow, (available / ranks - needed) / 4);
  return window < kSmallestWindow ? 0 : window;
}

LoadAhead::LoadAhead(const WeightSource& source, const Bindings& bindings, int64_t window) {
  if (window <= 0) return;
  std::vector<FileExtent> extents;
  int64_t end = 0;
  for (const Piece& piece : bindings.pieces) {
    const bool vector = bindings.destinations[piece.destination].is_vector();
    const IndexRange whole = {.begin = piece.first_col, .end = piece.first_col + piece.cols};
    const IndexRange rows =
        vector ? whole : IndexRange{.begin = piece.first_row, .end = piece.first_row + piece.rows};
    const IndexRange cols = vector ? IndexRange{.begin = 0, .end = 1} : whole;
    const auto extent = rows.size() > 0 && cols.size() > 0 ? source.extent(*piece.source, rows, cols)
                                                           : std::optional<FileExtent>();
    places_.push_back({.begin = end, .row_bytes = extent ? extent->length / rows.size() : 0});
    if (!extent) continue;
    extents.push_back(*extent);
    end += extent->length;
  }
  if (!extents.empty()) ahead_ = std::make_unique<ReadAhead>(std::move(extents), window);
}

void LoadAhead::wait_for(const Tile& tile) {
  if (ahead_ == nullptr) return;
  const Place& place = places_[tile.piece];
  ahead_->wait_for(place.begin + place.row_bytes * tile.begin, place.begin + place.row_bytes * tile.end);
}

}  // namespace octet
