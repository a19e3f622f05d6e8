// SPDX-License-Identifier: Apache-2.0
#include "octet/core/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Shape, CountsItsElements) {
  EXPECT_EQ(Shape({2, 3, 5}).elements(), 30);
  EXPECT_EQ(Shape({2, 0, 5}).elements(), 0);
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({2, 3}).rank(), 2);
  EXPECT_EQ(Shape({2, 3})[1], 3);
}

TEST(Shape, IsEqualWhenRankAndSizesAre) {
  EXPECT_EQ(Shape({2, 3}), Shape(std::vector<int64_t>{2, 3}));
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_NE(Shape({2}), Shape({2, 1}));
}

TEST(Shape, IsPrintedAsAList) {
  EXPECT_EQ(Shape({2, 3}).to_string(), "[2, 3]");
  EXPECT_EQ(Shape().to_string(), "[]");
}

TEST(Shape, RefusesNegativeSizesFiveDimensionsAndOverflow) {
  EXPECT_THAT([] { Shape({2, -1}); }, ThrowsMessage<ArgumentError>(HasSubstr("a size is negative: -1")));
  EXPECT_THAT([] { Shape({1, 1, 1, 1, 1}); },
              ThrowsMessage<ArgumentError>(HasSubstr("at most 4 sizes, found 5")));
  EXPECT_THAT([] { Shape({INT64_MAX, 2}); }, ThrowsMessage<ArgumentError>(HasSubstr("overflows")));
}

}  // namespace
}  // namespace octet
