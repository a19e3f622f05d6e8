// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/factory.h"

#include "octet/comm/mpi_communicator.h"
#include "octet/comm/single.h"

namespace octet {

std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options) {
  if (options.world_size == 1) return std::make_unique<SingleCommunicator>();
  return make_mpi_communicator(options);
}

}  // namespace octet
