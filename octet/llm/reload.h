// SPDX-License-Identifier: Apache-2.0
/// New weights for a model that runs.
#pragma once

#include <string>
#include <vector>

namespace octet {

enum class ReloadMode {
  kInPlace,  ///< over the old weights, without a second copy: no step until all are there
  kAtomic,   ///< beside the old weights, which serve until all are there
};

struct ReloadOptions {
  ReloadMode mode = ReloadMode::kInPlace;
  /// Modules to load (exact, glob, or re:); empty: all. Members of one merged matrix (q, k, v; gate, up) are
  /// loaded together.
  std::vector<std::string> modules = {};
};

}  // namespace octet
