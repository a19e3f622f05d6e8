// SPDX-License-Identifier: Apache-2.0
/// Decides which sequences go into the next step and how many of their tokens: decodes first, then prompts in
/// chunks.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "octet/engine/block_manager.h"
#include "octet/engine/sequence.h"

namespace octet {

struct SchedulerLimits {
  int64_t max_num_seqs = 1;  ///< running at once
  int64_t max_step_tokens = 512;
};

/// Tokens [first, first + count) of a sequence go through the model in this step.
struct ScheduledChunk {
  Sequence* sequence = nullptr;
  int64_t first = 0;
  int64_t count = 0;
  /// Whether the chunk ends at the sequence's last token, so that its logits give the next one.
  [[nodiscard]] bool samples() const { return first + count == sequence->length(); }
};

/// Not thread-safe. Owns the sequences.
class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, BlockManager& blocks);

  void add(std::unique_ptr<Sequence> sequence);
  /// Forgets a sequence, waiting or running, and frees its blocks. False when there is none of this id.
  bool remove(int64_t id);
  /// Takes the blocks of all running sequences back: they are computed anew, from the tokens they have.
  void forget_computed();
  [[nodiscard]] bool empty() const { return waiting_.empty() && running_.empty(); }

  /// The next step; valid until the next call of any method. Sequences that lose their blocks to older ones
  /// are computed anew later.
  [[nodiscard]] std::span<const ScheduledChunk> next();

 private:
  void schedule_running(bool decodes, int64_t& budget);
  void admit(int64_t& budget);
  [[nodiscard]] bool make_room(Sequence& sequence, int64_t tokens);
  void preempt_youngest();

  SchedulerLimits limits_;
  BlockManager& blocks_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // oldest first
  std::vector<ScheduledChunk> chunks_;
};

}  // namespace octet
