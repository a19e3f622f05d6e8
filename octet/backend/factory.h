// SPDX-License-Identifier: Apache-2.0
/// From a device's name to its backend.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "octet/backend/backend.h"

namespace octet {

struct BackendOptions {
  std::string device = "auto";               ///< "auto", "cpu" or "reference"
  int threads = 0;                           ///< 0: one for each core the process may use
  ParallelCall borrowed_threads = nullptr;   ///< not null: as Threads::borrowed
  std::optional<CpuIsa> isa = std::nullopt;  ///< a lower instruction set than the best, for "cpu"
};

/// `ledger` must outlive the backend. Throws ConfigError naming what is known for an unknown device, an
/// instruction set the machine lacks, or a thread count outside 1..1024.
[[nodiscard]] std::unique_ptr<Backend> make_backend(const BackendOptions& options, MemoryLedger& ledger);

}  // namespace octet
