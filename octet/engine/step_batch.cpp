// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/step_batch.h"

#include "octet/base/error.h"

namespace octet {

StepBatch::StepBatch(const StepLimits& limits, int64_t block_size)
    : limits_(limits), block_size_(block_size) {
  token_ids_.reserve(static_cast<size_t>(limits.max_tokens));
  positions_.reserve(static_cast<size_t>(limits.max_tokens));
  slots_.reserve(static_cast<size_t>(limits.max_tokens));
  sequence_starts_.reserve(static_cast<size_t>(limits.max_sequences) + 1);
  context_lengths_.reserve(static_cast<size_t>(limits.max_sequences));
  block_tables_.reserve(static_cast<size_t>(limits.max_sequences * limits.max_blocks_per_sequence));
}

void StepBatch::fill(std::span<const ScheduledChunk> chunks) {
  token_ids_.clear();
  positions_.clear();
  slots_.clear();
  sequence_starts_.assign(1, 0);
  context_lengths_.clear();
  block_tables_.clear();
  for (const ScheduledChunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    for (int64_t position = chunk.first; position < chunk.first + chunk.count; ++position) {
      token_ids_.push_back(sequence.tokens[static_cast<size_t>(position)]);
      positions_.push_back(static_cast<int32_t>(position));
      const int32_t block = sequence.blocks[static_cast<size_t>(position / block_size_)];
      slots_.push_back(static_cast<int32_t>(block * block_size_ + position % block_size_));
    }
    sequence_starts_.push_back(static_cast<int32_t>(token_ids_.size()));
    context_lengths_.push_back(static_cast<int32_t>(chunk.first + chunk.count));
    block_tables_.insert(block_tables_.end(), sequence.blocks.begin(), sequence.blocks.end());
    block_tables_.resize(context_lengths_.size() * static_cast<size_t>(limits_.max_blocks_per_sequence), 0);
  }
}

void StepBatch::send(Communicator& communicator) {
  if (communicator.world_size() == 1) return;
  give_order(communicator, {.kind = OrderKind::kForward,
                            .numbers = {static_cast<int64_t>(token_ids_.size()),
                                        static_cast<int64_t>(context_lengths_.size())}});
  share(communicator);
}

void StepBatch::receive(Communicator& communicator, const Order& order) {
  const int64_t tokens = order.numbers[0];
  const int64_t sequences = order.numbers[1];
  check(tokens >= 0 && tokens <= limits_.max_tokens && sequences >= 0 && sequences <= limits_.max_sequences,
        "a batch is within the limits of its runner");
  token_ids_.resize(static_cast<size_t>(tokens));
  positions_.resize(static_cast<size_t>(tokens));
  slots_.resize(static_cast<size_t>(tokens));
  sequence_starts_.resize(static_cast<size_t>(sequences) + 1);
  context_lengths_.resize(static_cast<size_t>(sequences));
  block_tables_.resize(static_cast<size_t>(sequences * limits_.max_blocks_per_sequence));
  share(communicator);
}

void StepBatch::share(Communicator& communicator) {
  for (std::vector<int32_t>* values :
       {&token_ids_, &positions_, &slots_, &sequence_starts_, &context_lengths_, &block_tables_}) {
    communicator.broadcast_values(std::span(*values));
  }
}

Batch StepBatch::batch() const {
  return {.token_ids = token_ids_,
          .positions = positions_,
          .slots = slots_,
          .layout = {.sequence_starts = sequence_starts_,
                     .context_lengths = context_lengths_,
                     .block_tables = block_tables_,
                     .max_blocks = limits_.max_blocks_per_sequence}};
}

}  // namespace octet
