// SPDX-License-Identifier: Apache-2.0
/// A rank of a world that is only planned: it knows its place and meets nobody.
#pragma once

#include "octet/comm/communicator.h"

namespace octet {

/// For memory plans: every collective call throws ArgumentError.
class PlanningCommunicator : public Communicator {
 public:
  PlanningCommunicator(int rank, int world_size) : Communicator(rank, world_size) {}
  void barrier() override;

 private:
  void gather_to_all(std::span<const std::byte> mine, std::span<std::byte> all) override;
  void gather_to_first(std::span<const std::byte> mine, std::span<const int64_t> bytes,
                       std::span<std::byte> all) override;
  void send_to_all(std::span<std::byte> bytes) override;
};

}  // namespace octet
