// SPDX-License-Identifier: Apache-2.0
/// Attention of every shape and cache type stays within the error of float32 sums.
#include "tests/conformance/conformance.h"
#include "tests/conformance/kv_cache.h"
#include "tests/conformance/pairwise.h"

namespace octet::conformance {
namespace {

constexpr std::array<int64_t, 2> kKeyHeads = {1, 2};
constexpr std::array<int64_t, 4> kGroups = {1, 3, 4, 7};
constexpr std::array<int64_t, 7> kHeadDims = {8, 40, 64, 80, 96, 128, 256};
constexpr std::array<int64_t, 3> kBlockSizes = {16, 32, 5};
constexpr std::array<int64_t, 5> kWindows = {0, 1, 7, 33, 1000};

std::vector<std::vector<StepSequence>> batches() {
  return {
      {{1, 1}},                                         // the first token
      {{1, 77}},                                        // one decode
      {{33, 33}},                                       // a whole prompt
      {{1, 130}, {1, 3}, {1, 64}, {1, 1}},              // decodes of different lengths
      {{9, 81}, {1, 50}, {0, 20}, {20, 20}, {1, 300}},  // a chunk, decodes, a sequence without rows, a prompt
  };
}

class AttentionConformance : public Conformance {};

TEST_P(AttentionConformance, StaysWithinTheErrorOfFloat32Sums) {
  uint64_t seed = 70;
  for (const auto& v :
       pairwise_cases({kHeadDims.size(), kCacheTypes.size(), batches().size(), kWindows.size(),
                       kGroups.size(), kKeyHeads.size(), kBlockSizes.size(), 2})) {
    const AttentionCase what{.cache_dtype = kCacheTypes[v[1]],
                             .key_heads = kKeyHeads[v[5]],
                             .group = kGroups[v[4]],
                             .head_dim = kHeadDims[v[0]],
                             .block_size = kBlockSizes[v[6]],
                             .window = kWindows[v[3]],
                             .sequences = batches()[v[2]],
                             .gap = v[7] == 0 ? 0 : 9};
    SCOPED_TRACE(what.to_string());
    AttentionStep step(memory(), reference(), what, seed++);
    expect_within(step.run(reference()), step.run(candidate()), step.bound(reference()));
    if (HasFailure()) return;
  }
}

TEST_P(AttentionConformance, GivesTheOnlyKeyItsFullWeight) {
  AttentionStep step(memory(), reference(), {.head_dim = 64, .window = 1, .sequences = {{5, 37}}}, 80);
  expect_within(step.run(reference()), step.run(candidate()), Strided(memory(), 5, 64));
}

TEST_P(AttentionConformance, AcceptsAnEmptyStep) {
  AttentionStep none(memory(), reference(), {.head_dim = 8, .sequences = {{0, 4}}}, 81);
  EXPECT_EQ(none.run(candidate()).rows(), 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
