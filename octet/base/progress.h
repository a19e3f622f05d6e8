// SPDX-License-Identifier: Apache-2.0
/// How long work reports on itself and learns that it should stop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace octet {

struct LoadProgress {
  int64_t bytes_read = 0;
  int64_t bytes_total = 0;
  int64_t memory_bytes = 0;  ///< held now, by the ledger
  int64_t planned_peak_bytes = 0;
};

/// Called from the loading thread, at most some tens of times a second. Returning false stops the work: the
/// caller of the load then gets Interrupted. May be empty.
using LoadProgressCallback = std::function<bool(const LoadProgress&)>;

/// Where the library says things that are not errors (a tied head was stored in FP8, a raw cast underflows).
using WarningSink = std::function<void(const std::string&)>;

}  // namespace octet
