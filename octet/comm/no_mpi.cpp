// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "octet/base/error.h"
#include "octet/comm/mpi_communicator.h"

namespace octet {

std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options) {
  throw ConfigError("--tensor-parallel-size " + std::to_string(options.world_size) +
                    ": this build has no MPI, so a model runs in one process; install libopenmpi-dev and "
                    "build with -DOCTET_MPI=ON, or leave the option out");
}

bool has_mpi() {
  return false;
}

}  // namespace octet
