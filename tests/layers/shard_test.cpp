// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "octet/base/error.h"
#include "octet/comm/planning.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

TEST(Shard, WidthsAreCutWithoutGapsOrOverlaps) {
  for (const int64_t width : {5, 7, 64, 67, 131, 512, 1000, 4096, 11008, 151936, 151937}) {
    for (const int64_t ranks : {1, 2, 3, 4, 5}) {
      int64_t end = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const IndexRange share = width_share(width, rank, ranks);
        EXPECT_EQ(share.begin, end) << width << " over " << ranks;
        EXPECT_GT(share.size(), 0) << width << " over " << ranks;
        end = share.end;
      }
      EXPECT_EQ(end, width) << ranks;
    }
  }
}

TEST(Shard, LargeWidthsAreCutBetweenBlocksOfScalesAndSmallOnesAnywhere) {
  EXPECT_EQ(width_share(11008, 1, 3), (IndexRange{3584, 7296}));
  EXPECT_EQ(width_share(11008, 1, 3).begin % 128, 0);
  EXPECT_EQ(width_share(512, 0, 3), (IndexRange{0, 160}));
  EXPECT_EQ(width_share(70, 1, 3), (IndexRange{23, 46}));
  EXPECT_EQ(width_share(100, 0, 1), (IndexRange{0, 100}));
}

TEST(Shard, AWidthBelowTheNumberOfRanksIsRefused) {
  try {
    (void)width_share(2, 0, 3);
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("--tensor-parallel-size 3: a width of this model is 2"));
  }
}

TEST(Shard, EachQueryHeadLiesOnOneRankTogetherWithItsKeyValueHead) {
  for (const auto& [queries, keys] : {std::array{4, 4}, std::array{6, 2}, std::array{5, 1}, std::array{12, 3},
                                      std::array{32, 8}, std::array{14, 2}, std::array{7, 7}}) {
    const int64_t per_key = queries / keys;
    for (int ranks = 1; ranks <= queries; ++ranks) {
      int64_t end = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const HeadShare share = head_share(queries, keys, PlanningCommunicator(rank, ranks));
        EXPECT_EQ(share.query_heads.begin, end) << queries << ":" << keys << " over " << ranks;
        EXPECT_GT(share.query_heads.size(), 0);
        EXPECT_EQ(share.query_heads.begin / per_key, share.key_value_heads.begin);
        EXPECT_EQ((share.query_heads.end - 1) / per_key, share.key_value_heads.end - 1);
        EXPECT_EQ(share.query_heads.size() % share.key_value_heads.size(), 0)
            << "attention needs whole groups";
        end = share.query_heads.end;
      }
      EXPECT_EQ(end, queries);
    }
  }
}

TEST(Shard, MoreRanksThanQueryHeadsAreRefused) {
  try {
    (void)head_share(4, 2, PlanningCommunicator(0, 5));
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("this model has 4 attention heads, and every rank needs one; take at most 4"));
  }
}

}  // namespace
}  // namespace octet
