// SPDX-License-Identifier: Apache-2.0
#include "octet/base/file_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <thread>

#include "octet/base/error.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string read(const FileReader& file, int64_t offset, size_t count) {
  std::string text(count, '?');
  file.read_at(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST(FileReader, ReadsAtAnyPosition) {
  const TempFolder folder;
  const FileReader file(folder.write("a", "0123456789"));
  EXPECT_EQ(file.size(), 10);
  EXPECT_EQ(read(file, 7, 3), "789");
  EXPECT_EQ(read(file, 0, 10), "0123456789");
  EXPECT_EQ(read(file, 10, 0), "");
  file.drop_cache(0, 10);
  file.drop_cache(0, 0);
  EXPECT_EQ(read(file, 2, 1), "2");
}

TEST(FileReader, NamesFileOffsetWantedAndFoundWhenTheFileEndsFirst) {
  const TempFolder folder;
  const FileReader file(folder.write("short.bin", "0123456789"));
  EXPECT_THAT([&] { read(file, 8, 5); },
              ThrowsMessage<FormatError>(AllOf(
                  HasSubstr("short.bin"), HasSubstr("expected 5 bytes at offset 8"), HasSubstr("found 2"))));
  EXPECT_THROW(read(file, -1, 1), ArgumentError);
}

TEST(FileReader, RefusesAFileThatShrankAfterOpening) {
  const TempFolder folder;
  const FileReader file(folder.write("a", std::string(100000, 'x')));
  std::filesystem::resize_file(folder.path() / "a", 10);
  EXPECT_EQ(file.size(), 100000);
  EXPECT_THAT([&] { read(file, 0, 100000); }, ThrowsMessage<FormatError>(HasSubstr("cut short")));
}

TEST(FileReader, RefusesAMissingFileAFolderAndADevice) {
  const TempFolder folder;
  EXPECT_THAT([&] { FileReader(folder.path() / "none"); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr("none"), HasSubstr("No such file"))));
  EXPECT_THAT([&] { FileReader reader(folder.path()); },
              ThrowsMessage<FormatError>(HasSubstr("found a folder")));
  EXPECT_THAT([&] { FileReader("/dev/zero"); }, ThrowsMessage<FormatError>(HasSubstr("found a device")));
}

TEST(FileReader, RefusesANamedPipeWithoutWaitingForItsWriter) {
  const TempFolder folder;
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT([&] { FileReader reader(pipe); }, ThrowsMessage<FormatError>(HasSubstr("found a named pipe")));
}

TEST(FileReader, MovesWithItsDescriptor) {
  const TempFolder folder;
  FileReader first(folder.write("a", "aaa"));
  FileReader second(folder.write("b", "bb"));
  second = std::move(first);
  EXPECT_EQ(second.size(), 3);
  EXPECT_EQ(read(second, 0, 3), "aaa");
  const FileReader third(std::move(second));
  EXPECT_EQ(read(third, 0, 3), "aaa");
}

TEST(FileReader, IsReadByThreadsAtOnce) {
  const TempFolder folder;
  std::string content(1 << 16, ' ');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>('a' + i % 23);
  const FileReader file(folder.write("a", content));
  std::array<bool, 4> same{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < same.size(); ++t) {
    threads.emplace_back([&, t] {
      same[t] = true;
      for (size_t at = t; at + 100 < content.size(); at += 997) {
        same[t] = same[t] && read(file, static_cast<int64_t>(at), 100) == content.substr(at, 100);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(same, ::testing::Each(true));
}

TEST(ReadTextFile, GivesTheWholeFileUpToTheLimit) {
  const TempFolder folder;
  const auto path = folder.write("t", "text");
  EXPECT_EQ(read_text_file(path), "text");
  EXPECT_EQ(read_text_file(path, 4), "text");
  EXPECT_EQ(read_text_file(folder.write("empty", "")), "");
  EXPECT_THAT([&] { read_text_file(path, 3); },
              ThrowsMessage<FormatError>(HasSubstr("expected at most 3 bytes, found 4")));
}

}  // namespace
}  // namespace octet
