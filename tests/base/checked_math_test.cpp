// SPDX-License-Identifier: Apache-2.0
#include "octet/base/checked_math.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(CheckedMath, GivesTheResultThatFits) {
  EXPECT_EQ(checked_mul(int64_t{1} << 31, int64_t{1} << 31), int64_t{1} << 62);
  EXPECT_EQ(checked_add(INT64_MAX - 1, 1), INT64_MAX);
  EXPECT_EQ(checked_mul(0, INT64_MAX), 0);
}

TEST(CheckedMath, GivesNothingOnOverflow) {
  EXPECT_EQ(checked_mul(int64_t{1} << 32, int64_t{1} << 31), std::nullopt);
  EXPECT_EQ(checked_mul(INT64_MIN, -1), std::nullopt);
  EXPECT_EQ(checked_add(INT64_MAX, 1), std::nullopt);
}

TEST(CheckedMath, DividesAndRoundsUp) {
  EXPECT_EQ(ceil_div(0, 64), 0);
  EXPECT_EQ(ceil_div(64, 64), 1);
  EXPECT_EQ(ceil_div(65, 64), 2);
  EXPECT_EQ(round_up(65, 64), 128);
}

}  // namespace
}  // namespace octet
