// SPDX-License-Identifier: Apache-2.0
#include "octet/base/read_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>

#include "tests/support/temp_folder.h"

namespace octet {
namespace {

constexpr int64_t kPart = ReadAhead::kPart;

/// Two files; fetching them is only written down.
class ReadAheadTest : public ::testing::Test {
 protected:
  const TempFolder folder;
  const FileReader first{folder.write("a", "a")};
  const FileReader second{folder.write("b", "b")};
  const std::vector<FileExtent> extents = {
      {.file = &first, .offset = 100, .length = 3 * kPart},
      {.file = &second, .offset = kPart + 8, .length = 16},
      {.file = &second, .offset = 5 * kPart, .length = 4 * kPart},
  };
  const int64_t total = 7 * kPart + 16;
  std::mutex mutex;
  std::vector<FileExtent> parts;
  std::function<void(const FileExtent&)> fetch = [this](const FileExtent& part) {
    const std::lock_guard lock(mutex);
    parts.push_back(part);
  };

  int64_t fetched() {
    const std::lock_guard lock(mutex);
    return std::accumulate(parts.begin(), parts.end(), int64_t{0},
                           [](int64_t sum, const FileExtent& part) { return sum + part.length; });
  }
};

TEST_F(ReadAheadTest, FetchesEveryByteOnceInOrderInPartsOfTheFile) {
  {
    ReadAhead ahead(extents, total, fetch);
    ahead.wait_for(total, total);
  }
  ASSERT_EQ(fetched(), total);
  auto part = parts.begin();
  for (const FileExtent& extent : extents) {
    for (int64_t at = extent.offset; at < extent.offset + extent.length; ++part) {
      ASSERT_NE(part, parts.end());
      EXPECT_EQ(part->file, extent.file);
      EXPECT_EQ(part->offset, at);
      EXPECT_LE(part->length, kPart);
      EXPECT_EQ(part->offset / kPart, (part->offset + part->length - 1) / kPart);
      at += part->length;
    }
  }
  EXPECT_EQ(part, parts.end());
}

TEST_F(ReadAheadTest, StaysWithinTheWindowOfTheFurthestReader) {
  ReadAhead ahead(extents, kPart, fetch);
  for (const int64_t begin : {int64_t{0}, 2 * kPart, kPart, 3 * kPart}) {
    ahead.wait_for(begin, begin + 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int64_t furthest = begin == kPart ? 2 * kPart : begin;
    EXPECT_GE(fetched(), furthest + 10);
    EXPECT_LT(fetched(), furthest + 2 * kPart);  // a part that begins in the window may end outside of it
  }
}

TEST_F(ReadAheadTest, AReaderWaitsUntilItsBytesAreFetched) {
  std::atomic<bool> open{false};
  std::atomic<bool> read{false};
  ReadAhead ahead(extents, total, [&](const FileExtent& part) {
    while (!open && part.offset > 100) std::this_thread::yield();
    fetch(part);
  });
  ahead.wait_for(0, 10);  // the first part
  std::thread reader([&] {
    ahead.wait_for(kPart, 2 * kPart);
    read = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(read);
  open = true;
  reader.join();
  EXPECT_GE(fetched(), 2 * kPart);
}

TEST_F(ReadAheadTest, AReaderOfMoreThanTheWindowIsNotHeldForever) {
  ReadAhead ahead(extents, 1000, fetch);
  ahead.wait_for(0, total);
  ahead.wait_for(kPart, total + 1);
  EXPECT_GE(fetched(), kPart + 1000);
}

TEST_F(ReadAheadTest, EndsWithoutFetchingTheRestWhenItsReadersGiveUp) {
  {
    ReadAhead ahead(extents, kPart, fetch);
  }
  EXPECT_LT(fetched(), 2 * kPart);  // what fits the window, and no more
  parts.clear();
  {
    ReadAhead ahead(extents, total, [&](const FileExtent& part) {
      fetch(part);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
  }
  EXPECT_LT(fetched(), total);
}

TEST_F(ReadAheadTest, NobodyWaitsWhereNothingIsFetched) {
  ReadAhead none({}, total, fetch);
  none.wait_for(0, total);
  ReadAhead narrow(extents, 0, fetch);
  narrow.wait_for(0, total);
  EXPECT_EQ(fetched(), 0);
}

TEST_F(ReadAheadTest, FilesThatAreShorterThanTheirExtentsAreNoErrorHere) {
  ReadAhead ahead(extents, total);
  ahead.wait_for(0, total);
}

}  // namespace
}  // namespace octet
