// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "octet/base/error.h"
#include "octet/checkpoint/safetensors_header.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string small_file() {
  return safetensors_text("{\"__metadata__\":{\"format\":\"pt\"}," + entry("a", "U8", "[4]", 0, 4) + "," +
                              entry("b", "F32", "[2]", 4, 12) + "}",
                          "abcdefghijkl");
}

void expect_refusal(const std::filesystem::path& path, const std::string& message) {
  EXPECT_THAT([&] { SafetensorsFile file(path); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr(path.string()), HasSubstr(message))));
}

std::string read(const TensorFile& file, const TensorInfo& tensor, int64_t begin, size_t count) {
  std::string text(count, '?');
  file.read(tensor, begin, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST(Safetensors, ReadsBytesOfATensor) {
  const TempFolder folder;
  const SafetensorsFile file(folder.write("m.safetensors", small_file()));
  EXPECT_EQ(file.bytes(), static_cast<int64_t>(small_file().size()));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(read(file, file.tensors()[0], 0, 4), "abcd");
  EXPECT_EQ(read(file, file.tensors()[1], 2, 5), "ghijk");
  EXPECT_EQ(read(file, file.tensors()[1], 8, 0), "");
  file.drop_cache(file.tensors()[1]);
  EXPECT_EQ(read(file, file.tensors()[1], 0, 8), "efghijkl");
}

TEST(Safetensors, RefusesAReadThatLeavesItsTensor) {
  const TempFolder folder;
  const SafetensorsFile file(folder.write("m.safetensors", small_file()));
  EXPECT_THROW(read(file, file.tensors()[0], 2, 3), ArgumentError);
  EXPECT_THROW(read(file, file.tensors()[0], -1, 1), ArgumentError);
  EXPECT_THROW(read(file, file.tensors()[0], 5, 0), ArgumentError);
}

TEST(Safetensors, RefusesAFileCutAtAnyByte) {
  const TempFolder folder;
  const std::string whole = small_file();
  for (size_t length = 0; length < whole.size(); ++length) {
    const auto path = folder.write("m.safetensors", whole.substr(0, length));
    EXPECT_THROW(SafetensorsFile file(path), FormatError) << length;
  }
}

TEST(Safetensors, RefusesBytesBehindTheLastTensor) {
  const TempFolder folder;
  expect_refusal(folder.write("m.safetensors", small_file() + "x"),
                 "bytes 12 to 13 of the data belong to no tensor");
}

TEST(Safetensors, RefusesAFileOfZeroBytes) {
  const TempFolder folder;
  expect_refusal(folder.write("m.safetensors", ""), "expected at least 8 bytes, found 0");
}

TEST(Safetensors, RefusesAHeaderLengthThatOverflows) {
  const TempFolder folder;
  expect_refusal(folder.write("m.safetensors", length_bytes(uint64_t{1} << 63) + "{}"),
                 "a header of 9223372036854775808 bytes");
  expect_refusal(folder.write("m.safetensors", length_bytes(UINT64_MAX) + "{}"),
                 "a header of 18446744073709551615 bytes");
  expect_refusal(folder.write("m.safetensors", length_bytes(UINT64_MAX - 7) + "{}"),
                 "not a safetensors file");
}

TEST(Safetensors, RefusesAHeaderThatClaimsMoreThanTheFile) {
  const TempFolder folder;
  expect_refusal(folder.write("m.safetensors", length_bytes(3) + "{}"),
                 "expected a header of 3 bytes, found 2");
  expect_refusal(folder.write("m.safetensors", length_bytes(100'000'000) + "{}"),
                 "expected a header of 100000000 bytes, found 2");
}

TEST(Safetensors, RefusesAHeaderBeyondTheLimitThoughTheFileHasIt) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", length_bytes(kMaxSafetensorsHeader + 1) + "{}");
  std::filesystem::resize_file(path, 200'000'000);  // a hole: takes no room on the disk
  expect_refusal(path, "a header of 100000001 bytes, expected at most 100000000");
}

TEST(Safetensors, RefusesAHeaderOfNulBytes) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", length_bytes(1000));
  std::filesystem::resize_file(path, 2000);
  expect_refusal(path, "does not begin with '{'");
}

TEST(Safetensors, RefusesAFolderAndANamedPipeWithoutWaiting) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "d.safetensors");
  expect_refusal(folder.path() / "d.safetensors", "found a folder");
  const auto pipe = folder.path() / "p.safetensors";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_refusal(pipe, "found a named pipe");
}

TEST(Safetensors, RefusesToReadFromAFileThatShrankAfterOpening) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", small_file());
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, small_file().size() - 3);
  EXPECT_THAT([&] { read(file, file.tensors()[1], 0, 8); },
              ThrowsMessage<FormatError>(
                  AllOf(HasSubstr(path.string()), HasSubstr("cut short"), HasSubstr("found 5"))));
}

TEST(Safetensors, RefusesAFileOfAnotherKind) {
  const TempFolder folder;
  expect_refusal(folder.write("m.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
                 "not a safetensors file");
}

}  // namespace
}  // namespace octet
