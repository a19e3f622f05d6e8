// SPDX-License-Identifier: Apache-2.0
#include "octet/core/arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

class ArenaTest : public ::testing::Test {
 protected:
  HostAllocator allocator_;
  MemoryLedger ledger_;
  Arena arena_{Buffer(allocator_, ledger_, "workspace", 1024)};
};

TEST_F(ArenaTest, GivesAlignedPiecesThatDoNotOverlap) {
  std::byte* first = arena_.take(1);
  std::byte* second = arena_.take(65);
  std::byte* third = arena_.take(64);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0U);
  EXPECT_EQ(second - first, 64);
  EXPECT_EQ(third - second, 128);
  EXPECT_EQ(arena_.used(), 256);
  EXPECT_EQ(arena_.capacity(), 1024);
}

TEST_F(ArenaTest, TakesBackWhatAScopeTook) {
  std::byte* before = arena_.take(64);
  std::byte* inside = nullptr;
  {
    const ArenaScope scope(arena_);
    inside = arena_.take(512);
    EXPECT_EQ(arena_.used(), 576);
  }
  EXPECT_EQ(arena_.used(), 64);
  EXPECT_EQ(arena_.take(64), inside);
  EXPECT_NE(before, inside);
}

TEST_F(ArenaTest, RefusesMoreThanWasPlanned) {
  EXPECT_NO_THROW((void)arena_.take(1024));
  EXPECT_THAT([&] { (void)arena_.take(1); },
              ::testing::ThrowsMessage<ArgumentError>(::testing::HasSubstr("too small")));
  arena_.rewind(0);
  EXPECT_THROW((void)arena_.take(-1), ArgumentError);
  EXPECT_THROW((void)arena_.take(INT64_MAX), ArgumentError);
  EXPECT_EQ(arena_.used(), 0);
}

TEST_F(ArenaTest, GivesTensorsOfTheAskedTypeAndShape) {
  const TensorView tensor = arena_.tensor(DType::kBF16, {3, 5});
  EXPECT_EQ(tensor.dtype(), DType::kBF16);
  EXPECT_EQ(tensor.shape(), Shape({3, 5}));
  EXPECT_EQ(arena_.used(), 64);
}

}  // namespace
}  // namespace octet
