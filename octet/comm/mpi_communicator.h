// SPDX-License-Identifier: Apache-2.0
/// Ranks tied by MPI. Seen by the factory alone; `no_mpi.cpp` stands in its place where the build has none.
#pragma once

#include <memory>

#include "octet/comm/factory.h"

namespace octet {

[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options);

}  // namespace octet
