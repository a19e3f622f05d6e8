// SPDX-License-Identifier: Apache-2.0
/// Which blocks of the paged cache are free.
#pragma once

#include <cstdint>
#include <vector>

namespace octet {

/// Not thread-safe; belongs to the scheduler.
class BlockManager {
 public:
  BlockManager(int64_t num_blocks, int64_t block_size);

  [[nodiscard]] int64_t block_size() const { return block_size_; }
  [[nodiscard]] int64_t total() const { return total_; }
  [[nodiscard]] int64_t available() const { return static_cast<int64_t>(free_.size()); }
  [[nodiscard]] int64_t blocks_for(int64_t tokens) const { return (tokens + block_size_ - 1) / block_size_; }

  /// Makes `blocks` large enough for `tokens` tokens; false (and nothing taken) when too few are free.
  [[nodiscard]] bool grow(std::vector<int32_t>& blocks, int64_t tokens);
  /// Takes all of `blocks` back and empties it.
  void release(std::vector<int32_t>& blocks);

 private:
  int64_t total_;
  int64_t block_size_;
  std::vector<int32_t> free_;  // the next one to give is the last
};

/// Gives a sequence's blocks back on leaving the scope, also when an error ends it.
class BlockLease {
 public:
  BlockLease(BlockManager& manager, std::vector<int32_t>& blocks) : manager_(manager), blocks_(blocks) {}
  ~BlockLease() { manager_.release(blocks_); }
  BlockLease(const BlockLease&) = delete;
  BlockLease& operator=(const BlockLease&) = delete;

 private:
  BlockManager& manager_;
  std::vector<int32_t>& blocks_;
};

}  // namespace octet
