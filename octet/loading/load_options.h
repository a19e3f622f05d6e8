// SPDX-License-Identifier: Apache-2.0
/// What the loader is told beside the parameters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/base/progress.h"
#include "octet/core/dtype.h"
#include "octet/loading/load_peers.h"

namespace octet {

/// Elements that one scale of a grid covers.
struct BlockSize {
  int64_t rows = 0;
  int64_t cols = 0;
};

/// Where the weights of a load go.
enum class LoadInto {
  kEmpty,       ///< destinations that hold nothing yet
  kInPlace,     ///< over the weights that are there; a load that fails leaves them half old, half new
  kSecondCopy,  ///< beside them, and in their place at the end; a load that fails leaves the old
};

struct LoadOptions {
  /// F32, BF16 or F16: weights that are not quantized keep the dtype of the file where every value of it is
  /// one of this dtype, and are rounded once to this dtype otherwise.
  DType compute_dtype = DType::kBF16;
  /// NaN and infinity in a weight that is quantized: counted instead of refused.
  bool allow_nonfinite = false;
  /// Whether the page cache is to be left to others: files are read past it where they can be, and what was
  /// read through it is dropped from it; false: they are left in it, for the next load. nullopt: as true when
  /// the machine's available memory could not hold the model and its files together; otherwise files are read
  /// past it as long as the disk is not much slower than the workers, and what was read through it stays.
  std::optional<bool> drop_page_cache = std::nullopt;
  /// About how much is read at a time by one worker. All workers together hold at most `kLoadingBudget`.
  int64_t tile_bytes = int64_t{4} << 20;
  /// Tensors (globs or re:) that are no weights and are passed over in silence.
  std::vector<std::string> skip = {"*rotary_emb.inv_freq"};
  /// Blocks of scale grids in the file, from its quantization_config; nullopt: found from the grid's own
  /// size.
  std::optional<BlockSize> scale_block = std::nullopt;
  LoadInto into = LoadInto::kEmpty;
  /// A load of some modules: a destination of which the source has nothing is left as it is.
  bool partial = false;
  /// Bytes of pushed pieces that may wait for a scale at a time (see docs/loading.md for which do).
  int64_t max_pending_bytes = int64_t{32} << 20;
  /// The other ranks of a tensor-parallel load, each with its own slices of the same parameters in the same
  /// order, from the same source; nullptr: there are none. Must outlive the load.
  LoadPeers* peers = nullptr;
  LoadProgressCallback progress = {};
  WarningSink warn = {};
};

/// All buffers of a load together, for any number of threads.
inline constexpr int64_t kLoadingBudget = int64_t{32} << 20;

/// What a plan must know of the device.
struct LoadTarget {
  MatrixLayout weight_layout = MatrixLayout::kRowMajor;
  int threads = 1;
};
[[nodiscard]] inline LoadTarget load_target(Backend& backend) {
  return {.weight_layout = backend.weight_layout(), .threads = backend.threads().threads()};
}

}  // namespace octet
