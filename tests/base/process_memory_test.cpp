// SPDX-License-Identifier: Apache-2.0
#include "octet/base/process_memory.h"

#include <gtest/gtest.h>

#include <vector>

namespace octet {
namespace {

TEST(ProcessMemory, ReadsTheTwoSizesFromTheStatusText) {
  const ProcessMemory memory = parse_process_status(
      "Name:\toctet\nVmPeak:\t 99 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nThreads:\t1\n");
  EXPECT_EQ(memory.resident_bytes, 1024 * 1024);
  EXPECT_EQ(memory.peak_resident_bytes, 2048 * 1024);
}

TEST(ProcessMemory, IsZeroWhereTheSystemDoesNotTell) {
  EXPECT_EQ(parse_process_status("").resident_bytes, 0);
  EXPECT_EQ(parse_process_status("VmRSS:\nVmHWM: many\n").resident_bytes, 0);
  EXPECT_EQ(parse_process_status("VmRSS:\nVmHWM: many\n").peak_resident_bytes, 0);
}

TEST(ProcessMemory, ThisProcessHoldsWhatItTouches) {
  const ProcessMemory before = process_memory();
  if (before.resident_bytes == 0) GTEST_SKIP() << "this system has no /proc/self/status";
  const std::vector<char> touched(64 << 20, 'x');
  const ProcessMemory after = process_memory();
  EXPECT_GE(after.resident_bytes - before.resident_bytes, 60 << 20) << touched.size();
  EXPECT_GE(after.peak_resident_bytes, after.resident_bytes - (1 << 20));
}

}  // namespace
}  // namespace octet
