// SPDX-License-Identifier: Apache-2.0
#include "octet/base/page_fetcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "octet/base/error.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

constexpr int64_t kFileSize = (int64_t{12} << 20) + 77;

/// Pages of [begin, end) that are in the page cache.
int64_t resident(const FileReader& file, int64_t begin, int64_t end) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  begin = begin / page * page;
  const auto length = static_cast<size_t>(end - begin);
  void* pages = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, file.descriptor(), begin);
  std::vector<unsigned char> marks((length + static_cast<size_t>(page) - 1) / static_cast<size_t>(page));
  ::mincore(pages, length, marks.data());
  ::munmap(pages, length);
  return std::ranges::count_if(marks, [](unsigned char mark) { return (mark & 1) != 0; });
}

/// False where the file system keeps its files in memory, so that nothing can be fetched.
bool drop(const FileReader& file) {
  ::fsync(file.descriptor());
  file.drop_cache(0, file.size());
  return resident(file, 0, file.size()) == 0;
}

TEST(PageFetcher, BringsWhatItIsAskedForIntoThePageCacheAndNotAllOfTheFile) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(kFileSize, 'x')));
  if (!drop(file)) GTEST_SKIP() << "this file system keeps its files in memory";
  PageFetcher fetcher;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  constexpr int64_t kBegin = 5000;
  constexpr int64_t kEnd = int64_t{1} << 20;
  fetcher.fetch({.file = &file, .offset = kBegin, .length = kEnd - kBegin});
  EXPECT_EQ(resident(file, kBegin, kEnd), (kEnd - kBegin / page * page) / page);
}

TEST(PageFetcher, BringsPartsThatBeginAndEndAnywhereTheLastBytesOfTheFileToo) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(kFileSize, 'x')));
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  for (const int64_t begin : {int64_t{1}, (int64_t{3} << 20) + 123, kFileSize - 100}) {
    if (!drop(file)) GTEST_SKIP() << "this file system keeps its files in memory";
    const int64_t end = std::min(kFileSize, begin + (int64_t{4} << 20));
    PageFetcher().fetch({.file = &file, .offset = begin, .length = end - begin});
    EXPECT_EQ(resident(file, begin, end), (end + page - 1) / page - begin / page) << begin;
  }
}

TEST(PageFetcher, PassesOverWhatLiesBehindTheEndOfTheFileAsItIsNow) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(kFileSize, 'x')));
  PageFetcher fetcher;
  fetcher.fetch({.file = &file, .offset = kFileSize - 10, .length = 1 << 20});
  fetcher.fetch({.file = &file, .offset = kFileSize + 5, .length = 1 << 20});
  std::filesystem::resize_file(folder.path() / "a", 10);
  fetcher.fetch({.file = &file, .offset = 0, .length = kFileSize});  // no signal, no error
  fetcher.fetch({.file = &file, .offset = 1 << 20, .length = 1 << 20});
  std::vector<std::byte> bytes(20);
  EXPECT_THROW(file.read_at(0, bytes), FormatError);  // that is for the reader
}

TEST(CachedBytes, CountsThePagesThatAreThereToTheByte) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(kFileSize, 'x')));
  const FileExtent part = {.file = &file, .offset = 1000, .length = kFileSize - 2000};
  EXPECT_EQ(cached_bytes(part), part.length);  // just written
  if (!drop(file)) GTEST_SKIP() << "this file system keeps its files in memory";
  EXPECT_EQ(cached_bytes(part), 0);
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);
  std::vector<std::byte> byte(1);
  file.read_at(int64_t{5} << 20, byte);
  EXPECT_EQ(cached_bytes(part), ::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(cached_bytes({.file = &file, .offset = (int64_t{5} << 20) + 1, .length = 7}), 7);
}

TEST(CachedBytes, AreNoneWhereTheKernelDoesNotTell) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody who does not own the file";
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(kFileSize, 'x')));
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(::seteuid(kNobody), 0);
  const int64_t found = cached_bytes({.file = &file, .offset = 0, .length = kFileSize});
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_EQ(found, 0);
}

TEST(PageFetcher, GoesFromFileToFileAndToOneThatIsAnothersByName) {
  const TempFolder folder;
  const FileReader first(folder.write("a", std::string(kFileSize, 'x')));
  const FileReader second(folder.write("b", std::string(kFileSize, 'y')));
  if (!drop(first) || !drop(second)) GTEST_SKIP() << "this file system keeps its files in memory";
  std::filesystem::remove(folder.path() / "b");
  PageFetcher fetcher;
  for (const FileReader* file : {&first, &second, &first}) {
    fetcher.fetch({.file = file, .offset = 0, .length = kFileSize});
    EXPECT_EQ(resident(*file, 0, kFileSize), kFileSize / ::sysconf(_SC_PAGESIZE) + 1);
  }
}

}  // namespace
}  // namespace octet
