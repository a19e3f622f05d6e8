// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "octet/checkpoint/safetensors.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

const std::vector<TensorDeclaration> kTwo = {{"b\xc3\xa9\"", DType::kBF16, {2, 2}}, {"a", DType::kU8, {3}}};

size_t count_files(const TempFolder& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(folder.path())) ++count;
  return count;
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const TempFolder folder;
  const auto path = folder.path() / "m.safetensors";
  SafetensorsWriter writer(path, kTwo);
  EXPECT_EQ(writer.remaining(), 11);
  writer.append(bytes_of("1122"));
  writer.append(bytes_of(""));
  writer.append(bytes_of("3344xyz"));
  writer.finish();
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.tensors()[0].name, "b\xc3\xa9\"");
  EXPECT_EQ(file.tensors()[0].shape_text(), "[2, 2]");
  EXPECT_EQ(file.tensors()[0].dtype, DType::kBF16);
  EXPECT_EQ(file.tensors()[0].offset % 8, 0);
  std::string data(11, '?');
  FileReader(path).read_at(file.tensors()[0].offset, std::as_writable_bytes(std::span(data)));
  EXPECT_EQ(data, "11223344xyz");
}

TEST(SafetensorsWriter, WritesEmptyFilesAndOtherMetadata) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path() / "m.safetensors", {}, {{"made_by", "a test"}});
  writer.finish();
  const SafetensorsFile file(folder.path() / "m.safetensors");
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_EQ(file.metadata().at("made_by"), "a test");
}

TEST(SafetensorsWriter, TheSameInputGivesTheSameBytes) {
  const TempFolder folder;
  for (const char* name : {"1", "2"}) {
    SafetensorsWriter writer(folder.path() / name, kTwo);
    writer.append(bytes_of("11223344xyz"));
    writer.finish();
  }
  EXPECT_EQ(read_text_file(folder.path() / "1"), read_text_file(folder.path() / "2"));
}

TEST(SafetensorsWriter, LeavesTheOldFileUntilTheNewOneIsWhole) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", "old");
  SafetensorsWriter writer(path, kTwo);
  writer.append(bytes_of("11223344xyz"));
  EXPECT_EQ(read_text_file(path), "old");
  writer.finish();
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), 2U);
  EXPECT_EQ(count_files(folder), 1U);
}

TEST(SafetensorsWriter, LeavesNothingBehindWhenItIsGivenUp) {
  const TempFolder folder;
  {
    SafetensorsWriter writer(folder.path() / "m.safetensors", kTwo);
    writer.append(bytes_of("1122"));
    EXPECT_EQ(count_files(folder), 1U);
  }
  EXPECT_EQ(count_files(folder), 0U);
}

TEST(SafetensorsWriter, TwoWritersOfOneFileDoNotMeet) {
  const TempFolder folder;
  const auto path = folder.path() / "m.safetensors";
  SafetensorsWriter first(path, kTwo);
  SafetensorsWriter second(path, kTwo);
  first.append(bytes_of("11223344xyz"));
  second.append(bytes_of("aabbccddxyz"));
  first.finish();
  second.finish();
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), 2U);
  EXPECT_EQ(count_files(folder), 1U);
}

TEST(SafetensorsWriter, RefusesTooManyAndTooFewBytes) {
  const TempFolder folder;
  SafetensorsWriter writer(folder.path() / "m.safetensors", kTwo);
  EXPECT_THAT([&] { writer.append(bytes_of("11223344xyz!")); },
              ThrowsMessage<ArgumentError>(HasSubstr("more bytes")));
  writer.append(bytes_of("1122"));
  EXPECT_THAT([&] { writer.finish(); },
              ThrowsMessage<ArgumentError>(HasSubstr("7 bytes of its tensors are missing")));
  writer.append(bytes_of("3344xyz"));
  writer.finish();
  EXPECT_THAT([&] { writer.finish(); }, ThrowsMessage<ArgumentError>(HasSubstr("finished twice")));
  EXPECT_THAT([&] { writer.append({}); }, ThrowsMessage<ArgumentError>(HasSubstr("finished or failed")));
}

TEST(SafetensorsWriter, RefusesDeclarationsThatNoFileCanHold) {
  const TempFolder folder;
  const auto declare = [&](std::vector<TensorDeclaration> tensors) {
    return [&folder, tensors] { SafetensorsWriter writer(folder.path() / "m", tensors); };
  };
  EXPECT_THAT(declare({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}),
              ThrowsMessage<ArgumentError>(HasSubstr("'a' is declared twice")));
  EXPECT_THAT(declare({{"__metadata__", DType::kU8, {1}}}),
              ThrowsMessage<ArgumentError>(HasSubstr("reserved name")));
  EXPECT_THAT(declare({{"a", DType::kU8, {-1}}}), ThrowsMessage<ArgumentError>(HasSubstr("negative")));
  EXPECT_THAT(declare({{"a", DType::kU8, {INT64_MAX, 2}}}),
              ThrowsMessage<ArgumentError>(HasSubstr("overflows")));
  EXPECT_THAT(declare({{"a", DType::kU8, {-1, 0}}}), ThrowsMessage<ArgumentError>(HasSubstr("negative")));
  EXPECT_THAT(declare({{"a", DType::kF4, {3}}}), ThrowsMessage<ArgumentError>(HasSubstr("not whole bytes")));
  EXPECT_THAT(declare({{"\xff", DType::kU8, {1}}}), ThrowsMessage<ArgumentError>(HasSubstr("not UTF-8")));
  EXPECT_EQ(count_files(folder), 0U);
}

TEST(SafetensorsWriter, SaysWhereItCannotWrite) {
  const TempFolder folder;
  EXPECT_THAT(
      [&] { SafetensorsWriter writer(folder.path() / "no" / "m", kTwo); },
      ThrowsMessage<DeviceError>(AllOf(HasSubstr("no/m: cannot be written"), HasSubstr("No such file"))));
}

TEST(SafetensorsWriter, OnAFullDiskSaysSoAndLeavesNothingBehind) {
  const TempFolder folder;
  const auto path = folder.write("m.safetensors", "old");
  rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {1 << 16, old.rlim_max};  // stands for the disk: writes beyond fail with EFBIG
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::vector<TensorDeclaration> big = {{"t", DType::kU8, {1 << 20}}};
  const std::string data(1 << 20, 'x');
  EXPECT_THAT(
      [&] {
        SafetensorsWriter writer(path, big);
        EXPECT_THROW(writer.append(bytes_of(data)), DeviceError);
        EXPECT_EQ(count_files(folder), 1U);
        writer.append(bytes_of(data));
      },
      ThrowsMessage<ArgumentError>(HasSubstr("finished or failed")));
  EXPECT_THAT([&] { SafetensorsWriter(path, big).append(bytes_of(data)); },
              ThrowsMessage<DeviceError>(AllOf(HasSubstr(path.string()), HasSubstr("writing failed"))));
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(read_text_file(path), "old");
  EXPECT_EQ(count_files(folder), 1U);
}

}  // namespace
}  // namespace octet
