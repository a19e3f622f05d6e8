// SPDX-License-Identifier: Apache-2.0
/// The ranks of a communicator, as the loader sees them.
#pragma once

#include "octet/comm/communicator.h"
#include "octet/loading/load_peers.h"

namespace octet {

/// The communicator must outlive it.
class RankPeers final : public LoadPeers {
 public:
  explicit RankPeers(Communicator& communicator) : communicator_(communicator) {}
  [[nodiscard]] int rank() const override { return communicator_.rank(); }
  [[nodiscard]] int world_size() const override { return communicator_.world_size(); }
  void reduce_max(std::span<float> values) override { communicator_.all_reduce_max(values); }

 private:
  Communicator& communicator_;
};

}  // namespace octet
