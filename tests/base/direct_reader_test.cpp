// SPDX-License-Identifier: Apache-2.0
#include "octet/base/direct_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "octet/base/page_fetcher.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

constexpr int64_t kAlignment = DirectReader::kAlignment;
constexpr int64_t kSize = (int64_t{1} << 20) + 77;

std::string pattern(int64_t size) {
  std::string text(static_cast<size_t>(size), '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

struct AlignedBuffer {
  explicit AlignedBuffer(int64_t length)
      : bytes(static_cast<size_t>(DirectReader::buffer_bytes(length))),
        data(static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes)), &std::free) {}
  [[nodiscard]] std::span<std::byte> span() const { return {data.get(), bytes}; }
  size_t bytes;
  std::unique_ptr<std::byte, decltype(&std::free)> data;
};

/// Where files can be read past the cache at all.
bool offered(const FileReader& file) {
  const int fd = file.open_again(O_RDONLY | O_DIRECT);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class DirectReaderTest : public ::testing::Test {
 protected:
  const TempFolder folder;
  const std::string text = pattern(kSize);
  const FileReader file{folder.write("a", text)};
  DirectReader reader;

  void SetUp() override {
    if (!offered(file)) GTEST_SKIP() << "this file system offers no reads past the page cache";
  }
};

TEST_F(DirectReaderTest, ReadsPartsThatBeginAndEndAnywhere) {
  for (const int64_t begin : {int64_t{0}, int64_t{1}, kAlignment - 1, kAlignment, 3 * kAlignment + 5}) {
    for (const int64_t length : {int64_t{1}, int64_t{2}, kAlignment, kAlignment + 1, int64_t{100'000}}) {
      const AlignedBuffer buffer(length);
      const auto found = reader.read({.file = &file, .offset = begin, .length = length}, buffer.span());
      ASSERT_TRUE(found) << begin << " " << length;
      EXPECT_EQ(text_of(*found), text.substr(static_cast<size_t>(begin), static_cast<size_t>(length)));
    }
  }
}

TEST_F(DirectReaderTest, ReadsTheLastBytesOfAFileAndNoneBehindThem) {
  const AlignedBuffer buffer(kSize);
  for (const int64_t length : {int64_t{1}, int64_t{77}, int64_t{78}, kSize}) {
    const auto found =
        reader.read({.file = &file, .offset = kSize - length, .length = length}, buffer.span());
    ASSERT_TRUE(found) << length;
    EXPECT_EQ(text_of(*found), text.substr(static_cast<size_t>(kSize - length)));
  }
  EXPECT_FALSE(reader.read({.file = &file, .offset = kSize - 10, .length = 11}, buffer.span()));
}

TEST_F(DirectReaderTest, LeavesThePageCacheAsItIs) {
  ::fsync(file.descriptor());
  file.drop_cache(0, kSize);
  const FileExtent whole = {.file = &file, .offset = 0, .length = kSize};
  if (cached_bytes(whole) > 0) GTEST_SKIP() << "this file system keeps its files in memory";
  const AlignedBuffer buffer(kSize);
  ASSERT_TRUE(reader.read(whole, buffer.span()));
  EXPECT_EQ(cached_bytes(whole), 0);
}

TEST_F(DirectReaderTest, SeesWhatWasWrittenAMomentAgo) {
  const int fd = ::open((folder.path() / "a").c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::pwrite(fd, "fresh", 5, 5000), 5);
  ::close(fd);
  const AlignedBuffer buffer(5);
  const auto found = reader.read({.file = &file, .offset = 5000, .length = 5}, buffer.span());
  ASSERT_TRUE(found);
  EXPECT_EQ(text_of(*found), "fresh");
}

TEST_F(DirectReaderTest, GivesNothingWhereTheFileHasBecomeShorter) {
  std::filesystem::resize_file(folder.path() / "a", 5000);
  const AlignedBuffer buffer(kSize);
  EXPECT_FALSE(reader.read({.file = &file, .offset = 0, .length = kSize}, buffer.span()));
  EXPECT_FALSE(reader.read({.file = &file, .offset = 9000, .length = 10}, buffer.span()));
}

TEST_F(DirectReaderTest, GivesNothingWhereTheBufferIsTooSmallOrBeginsInBetween) {
  const AlignedBuffer buffer(2 * kAlignment);
  const FileExtent part = {.file = &file, .offset = kAlignment - 1, .length = kAlignment + 2};
  EXPECT_FALSE(reader.read(part, buffer.span().first(2 * kAlignment)));
  EXPECT_FALSE(reader.read({.file = &file, .offset = 0, .length = 10}, buffer.span().subspan(64)));
  EXPECT_TRUE(reader.read(part, buffer.span()));
}

TEST_F(DirectReaderTest, GoesFromFileToFileAndToOneThatIsAnothersByName) {
  const FileReader other(folder.write("b", std::string(1000, 'y')));
  std::filesystem::remove(folder.path() / "b");
  const AlignedBuffer buffer(1000);
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(text_of(*reader.read({.file = &file, .offset = 0, .length = 1000}, buffer.span())),
              text.substr(0, 1000));
    EXPECT_EQ(text_of(*reader.read({.file = &other, .offset = 0, .length = 1000}, buffer.span())),
              std::string(1000, 'y'));
  }
}

}  // namespace
}  // namespace octet
