// SPDX-License-Identifier: Apache-2.0
#include "octet/base/file_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

size_t entries(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(FileWriter, PutsBytesAtTheirPlacesInAnyOrder) {
  const TempFolder folder;
  FileWriter writer(folder.path() / "f");
  writer.write_at(3, bytes_of("def"));
  writer.write_at(0, bytes_of("abc"));
  writer.start_writeback(0, 6);
  writer.commit();
  EXPECT_FALSE(writer.is_open());
  EXPECT_EQ(read_text_file(folder.path() / "f"), "abcdef");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(FileWriter, LeavesTheOldFileAloneUntilItIsCommitted) {
  const TempFolder folder;
  const auto path = folder.write("f", "old");
  {
    FileWriter writer(path);
    writer.write_at(0, bytes_of("new"));
    EXPECT_EQ(read_text_file(path), "old");
  }
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(FileWriter, SaysWhichFileCannotBeMade) {
  const TempFolder folder;
  EXPECT_THAT(
      [&] { FileWriter(folder.path() / "no" / "f"); },
      ThrowsMessage<DeviceError>(AllOf(HasSubstr("no/f: cannot be written"), HasSubstr("No such file"))));
}

TEST(FileWriter, RefusesBytesAfterTheEnd) {
  const TempFolder folder;
  FileWriter writer(folder.path() / "f");
  writer.commit();
  EXPECT_THROW(writer.write_at(0, bytes_of("x")), ArgumentError);
  EXPECT_THROW(writer.commit(), ArgumentError);
}

}  // namespace
}  // namespace octet
