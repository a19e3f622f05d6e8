// SPDX-License-Identifier: Apache-2.0
/// The precision rule of attention: the bits of a row depend on nothing but its own sequence.
#include "tests/conformance/conformance.h"
#include "tests/conformance/kv_cache.h"

namespace octet::conformance {
namespace {

class AttentionExactness : public Conformance {
 protected:
  template <class Body>
  void for_each_kind(Body&& body) {
    for (const DType dtype : kCacheTypes) {
      for (const int64_t window : {0, 45}) {
        for (const int64_t head_dim : {64, 40}) {
          const AttentionCase what{.cache_dtype = dtype,
                                   .key_heads = 2,
                                   .group = 3,
                                   .head_dim = head_dim,
                                   .block_size = 16,
                                   .window = window,
                                   .sequences = {{60, 60}, {1, 150}, {33, 97}, {1, 5}},
                                   .gap = 0};
          SCOPED_TRACE(what.to_string());
          body(what);
        }
      }
    }
  }
};

TEST_P(AttentionExactness, GivesAPromptTheSameBitsWholeAndInChunks) {
  for_each_kind([&](const AttentionCase& what) {
    AttentionStep step(memory(), reference(), what, 91);
    const Strided whole = step.run_part(candidate(), 0, 0, 60);
    int64_t begin = 0;
    for (const int64_t rows : {1, 2, 7, 16, 17, 4, 13}) {  // 60 in all
      expect_same_bits(whole, step.run_part(candidate(), 0, begin, begin + rows), begin);
      begin += rows;
    }
  });
}

TEST_P(AttentionExactness, GivesASequenceTheSameBitsAloneAndInABatch) {
  for_each_kind([&](const AttentionCase& what) {
    AttentionStep step(memory(), reference(), what, 92);
    const Strided batch = step.run(candidate());
    for (size_t s = 0; s < what.sequences.size(); ++s) {
      expect_same_bits(batch, step.run_part(candidate(), s, 0, what.sequences[s].rows), step.first_row(s));
    }
  });
}

TEST_P(AttentionExactness, GivesTheSameBitsWithAnyNumberOfThreads) {
  const std::unique_ptr<Backend> single = with_threads(1);
  for_each_kind([&](const AttentionCase& what) {
    AttentionStep step(memory(), reference(), what, 93);
    expect_same_bits(step.run(*single), step.run(candidate()));
  });
}

TEST_P(AttentionExactness, GivesTheSameBitsWhereverTheBlocksLie) {
  for_each_kind([&](const AttentionCase& what) {
    AttentionStep step(memory(), reference(), what, 94, 1);
    AttentionStep moved(memory(), reference(), what, 94, 2);
    expect_same_bits(step.run(candidate()), moved.run(candidate()));
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionExactness, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
