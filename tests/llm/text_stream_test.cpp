// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/text_stream.h"

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(StopStrings, HoldsBackWhatMayStillBecomeAStop) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("the E"), "the ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("emy"), "ENemy");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, EndsBeforeTheFirstStopEvenAcrossPieces) {
  StopStrings stops({"\n\n", "User:"});
  EXPECT_EQ(stops.push("one\n"), "one");
  EXPECT_EQ(stops.push("\nUser: two"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("three"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, TheEarliestOfSeveralStopsWins) {
  StopStrings stops({"cd", "b"});
  EXPECT_EQ(stops.push("abcd"), "a");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, AnOverlappingBeginningIsFoundAgain) {
  StopStrings stops({"aab"});
  EXPECT_EQ(stops.push("aa"), "");
  EXPECT_EQ(stops.push("a"), "a");
  EXPECT_EQ(stops.push("b"), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, GivesWhatItHeldWhenNothingMoreComes) {
  StopStrings stops({"stop"});
  EXPECT_EQ(stops.push("a sto"), "a ");
  EXPECT_EQ(stops.finish(), "sto");
}

TEST(StopStrings, RefusesAnEmptyStop) {
  EXPECT_THROW(StopStrings({"a", ""}), ArgumentError);
}

}  // namespace
}  // namespace octet
