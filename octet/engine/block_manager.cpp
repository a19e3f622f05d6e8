// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/block_manager.h"

#include "octet/base/error.h"

namespace octet {

BlockManager::BlockManager(int64_t num_blocks, int64_t block_size)
    : total_(num_blocks), block_size_(block_size) {
  check(num_blocks >= 1 && block_size >= 1, "a cache needs at least one block of at least one token");
  free_.reserve(static_cast<size_t>(num_blocks));
  for (int64_t block = num_blocks; block-- > 0;) free_.push_back(static_cast<int32_t>(block));
}

bool BlockManager::grow(std::vector<int32_t>& blocks, int64_t tokens) {
  const int64_t missing = blocks_for(tokens) - static_cast<int64_t>(blocks.size());
  if (missing > available()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    blocks.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void BlockManager::release(std::vector<int32_t>& blocks) {
  free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
  blocks.clear();
}

}  // namespace octet
