// SPDX-License-Identifier: Apache-2.0
/// The arrays of one step's batch: filled from scheduled chunks on rank 0, sent to the other ranks as plain
/// data.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/comm/communicator.h"
#include "octet/engine/orders.h"
#include "octet/engine/scheduler.h"
#include "octet/layers/context.h"

namespace octet {

struct StepLimits {
  int64_t max_tokens = 512;    ///< T of one step
  int64_t max_sequences = 1;   ///< S of one step
  int64_t max_logit_rows = 1;  ///< rows that get logits at a time
  int64_t max_blocks_per_sequence = 1;
};

/// Takes its memory at construction. Not thread-safe.
class StepBatch {
 public:
  StepBatch(const StepLimits& limits, int64_t block_size);

  void fill(std::span<const ScheduledChunk> chunks);
  /// Rank 0: the order to run this batch, and the batch.
  void send(Communicator& communicator);
  /// The others: the batch that follows the order. Throws ArgumentError when it is beyond the limits, which
  /// the ranks should have in common.
  void receive(Communicator& communicator, const Order& order);

  /// Valid until the next `fill` or `receive`.
  [[nodiscard]] Batch batch() const;
  /// The row behind the last one of sequence `index`.
  [[nodiscard]] int64_t end_of(size_t index) const { return sequence_starts_[index + 1]; }

 private:
  void share(Communicator& communicator);

  StepLimits limits_;
  int64_t block_size_;
  std::vector<int32_t> token_ids_;        // [T]
  std::vector<int32_t> positions_;        // [T]
  std::vector<int32_t> slots_;            // [T]
  std::vector<int32_t> sequence_starts_;  // [S + 1]
  std::vector<int32_t> context_lengths_;  // [S]
  std::vector<int32_t> block_tables_;     // [S, max_blocks_per_sequence]
};

}  // namespace octet
