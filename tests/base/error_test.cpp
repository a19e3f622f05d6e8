// SPDX-License-Identifier: Apache-2.0
#include "octet/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/thread_pool.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Check, DoesNothingWhenTheConditionHolds) {
  EXPECT_NO_THROW(check(true, "never said"));
}

TEST(Check, NamesTheRuleAndThePlaceWithoutTheFoldersOfTheMachine) {
  EXPECT_THAT(
      [] { check(false, "sizes are positive"); },
      ThrowsMessage<ArgumentError>(AllOf(HasSubstr("sizes are positive"), HasSubstr("error_test.cpp:"))));
  EXPECT_THAT([] { ThreadPool pool(0); },
              ThrowsMessage<ArgumentError>(HasSubstr("(octet/base/thread_pool.cpp:")));
}

TEST(Errors, AreAllOfOneBase) {
  EXPECT_THROW(throw FormatError("a"), Error);
  EXPECT_THROW(throw ConfigError("a"), Error);
  EXPECT_THROW(throw ArgumentError("a"), Error);
  EXPECT_THROW(throw DeviceError("a"), Error);
  EXPECT_THROW(throw Interrupted("a"), Error);
}

}  // namespace
}  // namespace octet
