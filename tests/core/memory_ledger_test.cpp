// SPDX-License-Identifier: Apache-2.0
#include "octet/core/memory_ledger.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(MemoryLedger, CountsByGroupAndKeepsThePeak) {
  MemoryLedger ledger;
  ledger.add("weights", 100);
  ledger.add("loading", 50);
  ledger.remove("loading", 50);
  ledger.add("weights", 20);
  EXPECT_EQ(ledger.current(), 120);
  EXPECT_EQ(ledger.current("weights"), 120);
  EXPECT_EQ(ledger.current("loading"), 0);
  EXPECT_EQ(ledger.current("nobody"), 0);
  EXPECT_EQ(ledger.peak(), 150);
}

TEST(MemoryLedger, RestartsThePeakFromWhatIsHeldNow) {
  MemoryLedger ledger;
  ledger.add("a", 100);
  ledger.remove("a", 70);
  ledger.restart_peak();
  EXPECT_EQ(ledger.peak(), 30);
  ledger.add("a", 5);
  EXPECT_EQ(ledger.peak(), 35);
}

TEST(MemoryLedger, RefusesToGiveBackWhatWasNotTaken) {
  MemoryLedger ledger;
  ledger.add("a", 10);
  EXPECT_THROW(ledger.remove("a", 11), ArgumentError);
  EXPECT_THROW(ledger.remove("b", 1), ArgumentError);
  EXPECT_EQ(ledger.current(), 10);
}

TEST(MemoryLedger, LosesNothingBetweenThreads) {
  MemoryLedger ledger;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        ledger.add("a", 3);
        ledger.remove("a", 2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ledger.current(), 4000);
  EXPECT_GE(ledger.peak(), 4000);
  EXPECT_LE(ledger.peak(), 4012);
}

}  // namespace
}  // namespace octet
