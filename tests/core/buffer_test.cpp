// SPDX-License-Identifier: Apache-2.0
#include "octet/core/buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(Buffer, IsZeroFilledAlignedAndWritable) {
  HostAllocator allocator;
  MemoryLedger ledger;
  for (const int64_t bytes : {1, 63, 4096, 5 << 20}) {
    const Buffer buffer(allocator, ledger, "g", bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U);
    EXPECT_TRUE(
        std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    buffer.data()[bytes - 1] = std::byte{1};
  }
}

TEST(Buffer, IsInTheLedgerForAsLongAsItLives) {
  HostAllocator allocator;
  MemoryLedger ledger;
  {
    const Buffer a(allocator, ledger, "a", 100);
    const Buffer b(allocator, ledger, "b", 30);
    EXPECT_EQ(ledger.current(), 130);
    EXPECT_EQ(ledger.current("b"), 30);
  }
  EXPECT_EQ(ledger.current(), 0);
  EXPECT_EQ(ledger.peak(), 130);
}

TEST(Buffer, MovesWithItsMemoryAndItsEntry) {
  HostAllocator allocator;
  MemoryLedger ledger;
  Buffer first(allocator, ledger, "a", 100);
  std::byte* data = first.data();
  Buffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(ledger.current("a"), 100);
  Buffer third(allocator, ledger, "b", 7);
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(ledger.current("a"), 100);
  EXPECT_EQ(ledger.current("b"), 0);
  third.reset();
  EXPECT_EQ(third.data(), nullptr);
  EXPECT_EQ(third.bytes(), 0);
  EXPECT_EQ(ledger.current(), 0);
}

TEST(Buffer, OfNoBytesHoldsNothing) {
  HostAllocator allocator;
  MemoryLedger ledger;
  const Buffer buffer(allocator, ledger, "a", 0);
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_EQ(ledger.peak(), 0);
}

TEST(Buffer, NamesTheSizeThatCannotBeHadAndLeavesTheLedgerAlone) {
  HostAllocator allocator;
  MemoryLedger ledger;
  constexpr int64_t kTooMuch = int64_t{1} << 60;
  EXPECT_THAT([&] { Buffer(allocator, ledger, "a", kTooMuch); },
              ::testing::ThrowsMessage<DeviceError>(::testing::HasSubstr("1152921504606846976 bytes")));
  EXPECT_EQ(ledger.current(), 0);
  EXPECT_EQ(ledger.peak(), 0);
}

}  // namespace
}  // namespace octet
