// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tile_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

#include "octet/base/direct_reader.h"
#include "octet/base/page_fetcher.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

constexpr int64_t kTile = 100'000;
constexpr size_t kTiles = 40;
constexpr int64_t kOffset = 123;  // of the first tile in the file

/// A file of tiles that is in no cache, and slots for some of them.
class TileStreamTest : public ::testing::Test {
 protected:
  const TempFolder folder;
  const std::string text = [] {
    std::string bytes(static_cast<size_t>(kOffset) + kTiles * kTile, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
    return bytes;
  }();
  const FileReader file{folder.write("a", text)};
  const int64_t slot_bytes = DirectReader::buffer_bytes(kTile);
  std::unique_ptr<std::byte, decltype(&std::free)> memory{nullptr, &std::free};

  void SetUp() override {
    const int fd = file.open_again(O_RDONLY | O_DIRECT);
    if (fd < 0) GTEST_SKIP() << "this file system offers no reads past the page cache";
    ::close(fd);
    ::fsync(file.descriptor());
    file.drop_cache(0, file.size());
    if (cached() > 0) GTEST_SKIP() << "this file system keeps its files in memory";
  }
  [[nodiscard]] int64_t cached() const {
    return cached_bytes({.file = &file, .offset = 0, .length = file.size()});
  }
  [[nodiscard]] FileExtent extent(size_t tile) const {
    return {.file = &file, .offset = kOffset + static_cast<int64_t>(tile) * kTile, .length = kTile};
  }
  TileStream::Parts parts(size_t slots) {
    memory.reset(static_cast<std::byte*>(
        std::aligned_alloc(DirectReader::kAlignment, slots * static_cast<size_t>(slot_bytes))));
    return {
        .tiles = kTiles,
        .part_of = [this](size_t tile) { return TileStream::Part{.extent = extent(tile), .direct = true}; },
        .memory = {memory.get(), slots * static_cast<size_t>(slot_bytes)},
        .slot_bytes = slot_bytes,
        .workers = 1,
        .window = int64_t{1} << 20};
  }
  [[nodiscard]] bool is_tile(std::span<const std::byte> bytes, size_t tile) const {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
           std::string_view(text).substr(static_cast<size_t>(extent(tile).offset), kTile);
  }
};

TEST_F(TileStreamTest, HandsOutEveryTileWithItsBytesToAnyNumberOfWorkersAndLeavesTheCacheEmpty) {
  for (const size_t workers : {size_t{1}, size_t{2}, size_t{7}}) {
    for (const size_t slots : {size_t{2}, size_t{3}, size_t{9}}) {
      TileStream stream(parts(slots));
      std::atomic<size_t> next{0};
      std::atomic<size_t> right{0};
      std::vector<std::thread> threads;
      for (size_t i = 0; i < workers; ++i) {
        threads.emplace_back([&] {
          for (size_t tile = next++; tile < kTiles; tile = next++) {
            const TileLoan loan(stream, tile);
            if (is_tile(loan.bytes(), tile)) ++right;
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(right, kTiles) << workers << " " << slots;
    }
  }
  EXPECT_EQ(cached(), 0);
}

TEST_F(TileStreamTest, WhatIsNotToBeReadPastTheCacheIsFetchedIntoIt) {
  const FileReader other(folder.write("b", text));
  ::fsync(other.descriptor());
  other.drop_cache(0, other.size());
  const auto place = [&](size_t tile) {
    return FileExtent{.file = tile % 3 == 1 ? &file : &other, .offset = extent(tile).offset, .length = kTile};
  };
  TileStream::Parts mixed = parts(2);
  mixed.part_of = [&](size_t tile) {
    if (tile % 3 == 0) return TileStream::Part{};  // in no file
    return TileStream::Part{.extent = place(tile), .direct = tile % 3 == 1};
  };
  TileStream stream(mixed);
  for (size_t tile = 0; tile < kTiles; ++tile) {
    const TileLoan loan(stream, tile);
    EXPECT_EQ(!loan.bytes().empty(), tile % 3 == 1) << tile;
    if (tile % 3 == 2) {
      EXPECT_EQ(cached_bytes(place(tile)), kTile);
    }
  }
  EXPECT_EQ(cached(), 0);
}

TEST_F(TileStreamTest, WhatIsInTheCacheIsLeftToTheWorkers) {
  PageFetcher().fetch({.file = &file, .offset = 0, .length = file.size()});
  TileStream stream(parts(3));
  for (size_t tile = 0; tile < kTiles; ++tile) EXPECT_TRUE(TileLoan(stream, tile).bytes().empty());
}

TEST_F(TileStreamTest, FetchesNothingIntoACacheWithoutRoom) {
  TileStream::Parts none = parts(2);
  none.window = 0;
  none.part_of = [this](size_t tile) { return TileStream::Part{.extent = extent(tile)}; };
  TileStream stream(none);
  for (size_t tile = 0; tile < kTiles; ++tile) EXPECT_TRUE(TileLoan(stream, tile).bytes().empty());
  EXPECT_EQ(cached(), 0);
}

TEST_F(TileStreamTest, TheRestGoesThroughTheCacheWhereWorkersAreMuchFasterThanTheDisk) {
  for (const bool keep_out : {true, false}) {
    TileStream::Parts idle = parts(2);
    idle.judged = 5 * kTile;
    idle.keep_out = keep_out;
    TileStream stream(idle);
    size_t past = 0;
    for (size_t tile = 0; tile < kTiles; ++tile) past += TileLoan(stream, tile).bytes().empty() ? 0 : 1;
    EXPECT_GE(past, 5U);
    EXPECT_EQ(past == kTiles, keep_out);
    EXPECT_EQ(cached() == 0, keep_out);
  }
}

TEST_F(TileStreamTest, APartThatCannotBeToldIsLeftToTheWorkers) {
  TileStream::Parts broken = parts(2);
  broken.part_of = [this](size_t tile) {
    if (tile % 2 == 0) throw std::bad_alloc();
    return TileStream::Part{.extent = extent(tile), .direct = true};
  };
  TileStream stream(broken);
  for (size_t tile = 0; tile < kTiles; ++tile)
    EXPECT_EQ(TileLoan(stream, tile).bytes().empty(), tile % 2 == 0);
}

TEST_F(TileStreamTest, AFileThatHasBecomeShorterIsForTheWorkersToReport) {
  std::filesystem::resize_file(folder.path() / "a", 10 * kTile);
  TileStream stream(parts(2));
  for (size_t tile = 0; tile < kTiles; ++tile) {
    const TileLoan loan(stream, tile);
    EXPECT_TRUE(loan.bytes().empty() || tile < 10);
  }
}

TEST_F(TileStreamTest, EndsWhereverItsWorkersGiveUp) {
  for (const size_t taken : {size_t{0}, size_t{1}, size_t{5}, kTiles}) {
    TileStream stream(parts(3));
    for (size_t tile = 0; tile < taken; ++tile) EXPECT_TRUE(is_tile(TileLoan(stream, tile).bytes(), tile));
  }
  TileStream stream(parts(3));
  (void)stream.take(0);  // never given back
  EXPECT_TRUE(is_tile(stream.take(1), 1));
}

}  // namespace
}  // namespace octet
