// SPDX-License-Identifier: Apache-2.0
/// Has the files of a load fetched ahead of the workers that read its tiles.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "octet/base/read_ahead.h"
#include "octet/loading/tile_filler.h"

namespace octet {

/// Bytes that may be fetched ahead when `needed` of `available` (0: unknown) will be taken: 128 MiB, less
/// where the page cache would lose them again before they are read, and 0 where little would be left. `ranks`
/// share the memory.
[[nodiscard]] int64_t read_ahead_window(int64_t available, int64_t needed, int ranks);

class LoadAhead {
 public:
  /// Fetches what the pieces read, in their order. A source that has no files is left alone. Source and
  /// bindings must outlive it.
  LoadAhead(const WeightSource& source, const Bindings& bindings, int64_t window);

  /// A worker is about to read this tile: returns when it has been fetched. From any thread.
  void wait_for(const Tile& tile);

 private:
  /// Of a piece, on the line of all bytes.
  struct Place {
    int64_t begin = 0;
    int64_t row_bytes = 0;
  };

  std::vector<Place> places_;
  std::unique_ptr<ReadAhead> ahead_;
};

}  // namespace octet
