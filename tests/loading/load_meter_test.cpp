// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_meter.h"

#include <gtest/gtest.h>

#include <thread>

namespace octet {
namespace {

TEST(LoadMeter, ReportsBytesMemoryAndPlan) {
  MemoryLedger ledger;
  ledger.add("weights", 77);
  LoadProgress last;
  LoadMeter meter(
      ledger,
      [&](const LoadProgress& progress) {
        last = progress;
        return true;
      },
      1000, 5000);
  meter.add_read(40);
  meter.add_read(2);
  meter.report();
  EXPECT_EQ(last.bytes_read, 42);
  EXPECT_EQ(last.bytes_total, 1000);
  EXPECT_EQ(last.memory_bytes, 77);
  EXPECT_EQ(last.planned_peak_bytes, 5000);
  EXPECT_FALSE(meter.cancelled());
}

TEST(LoadMeter, IsCancelledWhenTheCallbackSaysSo) {
  const MemoryLedger ledger;
  LoadMeter meter(ledger, [](const LoadProgress&) { return false; }, 1, 1);
  EXPECT_FALSE(meter.cancelled());
  meter.report();
  EXPECT_TRUE(meter.cancelled());
}

TEST(LoadMeter, TicksAreRareAndOnlyOnTheLoadingThread) {
  const MemoryLedger ledger;
  int calls = 0;
  LoadMeter meter(
      ledger,
      [&](const LoadProgress&) {
        ++calls;
        return true;
      },
      1, 1);
  meter.tick();
  EXPECT_EQ(calls, 0) << "the last report was just now";
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  std::thread([&] { meter.tick(); }).join();
  EXPECT_EQ(calls, 0);
  meter.tick();
  meter.tick();
  EXPECT_EQ(calls, 1);
}

TEST(LoadMeter, TheTimelineStaysShortHoweverLongTheLoad) {
  const MemoryLedger ledger;
  LoadMeter meter(ledger, {}, 1, 1);
  for (int i = 0; i < 20000; ++i) meter.report();
  EXPECT_LE(meter.timeline().size(), 512U);
  EXPECT_GE(meter.timeline().size(), 100U);
  for (size_t i = 1; i < meter.timeline().size(); ++i) {
    EXPECT_GE(meter.timeline()[i].seconds, meter.timeline()[i - 1].seconds);
  }
}

}  // namespace
}  // namespace octet
