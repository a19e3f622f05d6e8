// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/scheduler.h"

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

std::unique_ptr<Sequence> sequence(int64_t id, int64_t prompt) {
  auto s = std::make_unique<Sequence>();
  s->id = id;
  s->tokens.assign(static_cast<size_t>(prompt), 1);
  s->prompt_tokens = prompt;
  s->max_length = prompt + 100;
  return s;
}

/// What the engine does after a step: everything scheduled is computed, and finished chunks gain a token.
void complete(std::span<const ScheduledChunk> chunks) {
  for (const ScheduledChunk& chunk : chunks) {
    const bool samples = chunk.samples();
    chunk.sequence->computed = chunk.first + chunk.count;
    if (samples) chunk.sequence->tokens.push_back(2);
  }
}

TEST(BlockManager, GivesWholeBlocksAndTakesThemBack) {
  BlockManager blocks(3, 4);
  std::vector<int32_t> mine;
  EXPECT_TRUE(blocks.grow(mine, 5));
  EXPECT_EQ(mine.size(), 2U);
  EXPECT_TRUE(blocks.grow(mine, 8));
  EXPECT_EQ(mine.size(), 2U);
  std::vector<int32_t> other;
  EXPECT_FALSE(blocks.grow(other, 5));
  EXPECT_TRUE(other.empty());
  EXPECT_EQ(blocks.available(), 1);
  blocks.release(mine);
  EXPECT_EQ(blocks.available(), 3);
  EXPECT_TRUE(mine.empty());
}

TEST(Scheduler, CutsALongPromptIntoChunksOfTheStepsBudget) {
  BlockManager blocks(100, 4);
  Scheduler scheduler({.max_num_seqs = 2, .max_step_tokens = 10}, blocks);
  scheduler.add(sequence(1, 25));
  for (const int64_t expected : {10, 10, 5}) {
    const auto chunks = scheduler.next();
    ASSERT_EQ(chunks.size(), 1U);
    EXPECT_EQ(chunks[0].count, expected);
    EXPECT_EQ(chunks[0].samples(), expected == 5);
    complete(chunks);
  }
  EXPECT_EQ(scheduler.next()[0].count, 1);
}

TEST(Scheduler, ServesDecodesBeforePromptsSoThatALongPromptStopsNobody) {
  BlockManager blocks(100, 4);
  Scheduler scheduler({.max_num_seqs = 2, .max_step_tokens = 8}, blocks);
  scheduler.add(sequence(1, 3));
  complete(scheduler.next());
  scheduler.add(sequence(2, 50));
  for (int step = 0; step < 3; ++step) {
    const auto chunks = scheduler.next();
    ASSERT_EQ(chunks.size(), 2U);
    EXPECT_EQ(chunks[0].sequence->id, 1);
    EXPECT_EQ(chunks[0].count, 1);
    EXPECT_EQ(chunks[1].count, 7);
    complete(chunks);
  }
}

TEST(Scheduler, RunsNoMoreSequencesThanItMay) {
  BlockManager blocks(100, 4);
  Scheduler scheduler({.max_num_seqs = 2, .max_step_tokens = 100}, blocks);
  for (int64_t id = 1; id <= 3; ++id) scheduler.add(sequence(id, 4));
  EXPECT_EQ(scheduler.next().size(), 2U);
  EXPECT_TRUE(scheduler.remove(1));
  EXPECT_EQ(scheduler.next().size(), 2U);
}

TEST(Scheduler, TakesBlocksFromTheYoungestWhenTheyRunOutAndComputesItAnewLater) {
  BlockManager blocks(4, 4);  // 16 tokens for both
  Scheduler scheduler({.max_num_seqs = 2, .max_step_tokens = 100}, blocks);
  scheduler.add(sequence(1, 7));
  scheduler.add(sequence(2, 7));
  int64_t youngest_restarts = 0;
  for (int step = 0; step < 8; ++step) {
    const auto chunks = scheduler.next();
    ASSERT_FALSE(chunks.empty());
    for (const auto& chunk : chunks) {
      if (chunk.sequence->id == 2 && step > 0 && chunk.first == 0) ++youngest_restarts;
    }
    complete(chunks);
  }
  EXPECT_TRUE(scheduler.remove(1));
  const auto chunks = scheduler.next();
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(chunks[0].sequence->id, 2);
  EXPECT_EQ(chunks[0].first, 0);
  EXPECT_EQ(chunks[0].count, chunks[0].sequence->length());
  EXPECT_EQ(youngest_restarts, 0);
}

TEST(Scheduler, ForgetsARemovedSequenceAndFreesItsBlocks) {
  BlockManager blocks(10, 4);
  Scheduler scheduler({.max_num_seqs = 1, .max_step_tokens = 100}, blocks);
  scheduler.add(sequence(1, 8));
  scheduler.add(sequence(2, 8));
  complete(scheduler.next());
  EXPECT_EQ(blocks.available(), 8);
  EXPECT_TRUE(scheduler.remove(1));
  EXPECT_TRUE(scheduler.remove(2));
  EXPECT_FALSE(scheduler.remove(3));
  EXPECT_EQ(blocks.available(), 10);
  EXPECT_TRUE(scheduler.empty());
}

}  // namespace
}  // namespace octet
