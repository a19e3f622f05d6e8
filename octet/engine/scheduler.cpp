// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/scheduler.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {

Scheduler::Scheduler(const SchedulerLimits& limits, BlockManager& blocks) : limits_(limits), blocks_(blocks) {
  check(limits.max_num_seqs >= 1 && limits.max_step_tokens >= 1,
        "a scheduler needs room for one sequence and one token");
  running_.reserve(static_cast<size_t>(limits.max_num_seqs));
  chunks_.reserve(static_cast<size_t>(limits.max_num_seqs));
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  waiting_.push_back(std::move(sequence));
}

bool Scheduler::remove(int64_t id) {
  const auto has_id = [id](const std::unique_ptr<Sequence>& s) { return s->id == id; };
  if (const auto it = std::find_if(running_.begin(), running_.end(), has_id); it != running_.end()) {
    blocks_.release((*it)->blocks);
    running_.erase(it);
    return true;
  }
  if (const auto it = std::find_if(waiting_.begin(), waiting_.end(), has_id); it != waiting_.end()) {
    waiting_.erase(it);
    return true;
  }
  return false;
}

std::span<const ScheduledChunk> Scheduler::next() {
  chunks_.clear();
  int64_t budget = limits_.max_step_tokens;
  schedule_running(/*decodes=*/true, budget);
  schedule_running(/*decodes=*/false, budget);
  admit(budget);
  return chunks_;
}

/// Decodes go before prompts, so that a long prompt slows the others by one chunk a step and never stops
/// them.
void Scheduler::schedule_running(bool decodes, int64_t& budget) {
  for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
    Sequence& sequence = *running_[i];
    const int64_t pending = sequence.pending();
    if ((pending == 1) != decodes) continue;
    const int64_t count = std::min(pending, budget);
    if (!make_room(sequence, sequence.computed + count)) return;
    chunks_.push_back({&sequence, sequence.computed, count});
    budget -= count;
  }
}

/// Grows the sequence's blocks, taking them from younger sequences if need be. False when it had to give way
/// itself.
bool Scheduler::make_room(Sequence& sequence, int64_t tokens) {
  while (!blocks_.grow(sequence.blocks, tokens)) {
    const bool gives_way = running_.back().get() == &sequence;
    preempt_youngest();
    if (gives_way) return false;
  }
  return true;
}

void Scheduler::forget_computed() {
  while (!running_.empty()) preempt_youngest();
}

void Scheduler::preempt_youngest() {
  Sequence& youngest = *running_.back();
  std::erase_if(chunks_, [&](const ScheduledChunk& chunk) { return chunk.sequence == &youngest; });
  blocks_.release(youngest.blocks);
  youngest.computed = 0;
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
}

/// A sequence enters when all that it has now fits; so two long prompts cannot starve each other half-way.
void Scheduler::admit(int64_t& budget) {
  while (!waiting_.empty() && budget > 0 && static_cast<int64_t>(running_.size()) < limits_.max_num_seqs) {
    Sequence& sequence = *waiting_.front();
    if (blocks_.blocks_for(sequence.length()) > blocks_.available()) return;
    const int64_t count = std::min(sequence.pending(), budget);
    check(blocks_.grow(sequence.blocks, sequence.length()), "blocks that were free are not");
    chunks_.push_back({&sequence, sequence.computed, count});
    budget -= count;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

}  // namespace octet
