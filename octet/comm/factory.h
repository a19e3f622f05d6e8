// SPDX-License-Identifier: Apache-2.0
/// From the number of ranks to the communicator that ties them.
#pragma once

#include <functional>
#include <memory>

#include "octet/comm/communicator.h"

namespace octet {

struct CommunicatorOptions {
  int64_t world_size = 1;
  /// Whether this process was asked to stop: looked at while it waits for others. Ranks other than 0 then
  /// stop at once, rank 0, which notices between steps, only where they do not come. Empty: never.
  std::function<bool()> stop_requested = {};
};

/// One rank needs no transport; more are tied by MPI, which this starts, once in a process. Throws
/// ConfigError where this build has no MPI, or where the launcher started another number of processes.
[[nodiscard]] std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options);

/// Whether more than one rank can be had.
[[nodiscard]] bool has_mpi();

}  // namespace octet
