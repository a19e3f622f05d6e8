// SPDX-License-Identifier: Apache-2.0
/// The other ranks of a tensor-parallel load, as the loader sees them: who they are, and the one thing that
/// ranks must do together, which is to find largest values. Implemented above the loader, over whatever
/// connects the ranks.
#pragma once

#include <functional>
#include <span>

namespace octet {

/// All ranks call `reduce_max` equally often, each time with equally many values: the loader sees to that,
/// also when one of them fails.
class LoadPeers {
 public:
  virtual ~LoadPeers() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world_size() const = 0;
  /// Replaces each value by the largest that any rank gave in its place. No value is NaN.
  /// Throws when the ranks are lost to each other; the load then ends with that error.
  virtual void reduce_max(std::span<float> values) = 0;
};

/// Runs `body` on every rank. Where it throws on one of them, all throw: the error of the lowest rank that
/// failed, of the same type and with "rank N: " before its message. Without peers it is just `body()`.
void fail_together(LoadPeers* peers, const std::function<void()>& body);

}  // namespace octet
