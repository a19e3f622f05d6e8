// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "octet/base/error.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void write_index(const TempFolder& folder, const std::string& weight_map) {
  folder.write("model.safetensors.index.json", "{\"weight_map\":" + weight_map + "}");
}

/// Two shards: "a" [2, 3] and "extra" in the first, "b" [4] and "s" [] in the second.
void write_shards(const TempFolder& folder) {
  folder.write("one.safetensors", safetensors_text("{" + entry("extra", "U8", "[1]", 6, 7) + "," +
                                                       entry("a", "U8", "[2,3]", 0, 6) + "}",
                                                   "abcdef!"));
  folder.write("two.safetensors", safetensors_text("{" + entry("b", "U16", "[4]", 1, 9) + "," +
                                                       entry("s", "U8", "[]", 0, 1) + "}",
                                                   "sbbccddee"));
}

constexpr const char* kMap = R"({"a":"one.safetensors","b":"two.safetensors","s":"two.safetensors"})";

std::string rows(const Checkpoint& checkpoint, const char* name, int64_t begin, int64_t end) {
  const TensorInfo& tensor = *checkpoint.find(name);
  std::string text(static_cast<size_t>((end - begin) * Checkpoint::row_bytes(tensor)), '?');
  checkpoint.read_rows(tensor, begin, end, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST(Checkpoint, ListsTensorsByFileAndOffset) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  const Checkpoint checkpoint(folder.path());
  std::vector<std::string> names;
  for (const TensorInfo& tensor : checkpoint.tensors())
    names.push_back(tensor.name + std::to_string(tensor.file));
  EXPECT_THAT(names, ElementsAre("a0", "s1", "b1"));
  EXPECT_THAT(checkpoint.files(),
              ElementsAre(folder.path() / "one.safetensors", folder.path() / "two.safetensors"));
  EXPECT_EQ(checkpoint.bytes(), 15);
  EXPECT_EQ(checkpoint.folder(), folder.path());
}

TEST(Checkpoint, FindsByName) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  const Checkpoint checkpoint(folder.path());
  ASSERT_NE(checkpoint.find("b"), nullptr);
  EXPECT_EQ(checkpoint.find("b")->dtype, DType::kU16);
  EXPECT_THAT(checkpoint.find("b")->shape, ElementsAre(4));
  EXPECT_EQ(checkpoint.find("nobody"), nullptr);
}

TEST(Checkpoint, LeavesOutAndListsWhatTheIndexDoesNotMap) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.find("extra"), nullptr);
  EXPECT_THAT(checkpoint.unmapped(), ElementsAre("extra"));
}

TEST(Checkpoint, TakesATensorFromTheFileThatTheIndexNamesThoughAnotherHasItToo) {
  const TempFolder folder;
  folder.write("one.safetensors",
               safetensors_text(
                   "{" + entry("a", "U8", "[1]", 0, 1) + "," + entry("b", "U8", "[1]", 1, 2) + "}", "12"));
  folder.write("two.safetensors", safetensors_text("{" + entry("a", "U8", "[1]", 0, 1) + "}", "3"));
  write_index(folder, R"({"a":"two.safetensors","b":"one.safetensors"})");
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(rows(checkpoint, "a", 0, 1), "3");
  EXPECT_THAT(checkpoint.unmapped(), ElementsAre("a"));
}

TEST(Checkpoint, ReadsRowsOfMatricesElementsOfVectorsAndScalars) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(rows(checkpoint, "a", 0, 2), "abcdef");
  EXPECT_EQ(rows(checkpoint, "a", 1, 2), "def");
  EXPECT_EQ(rows(checkpoint, "a", 1, 1), "");
  EXPECT_EQ(rows(checkpoint, "b", 1, 3), "ccdd");
  EXPECT_EQ(rows(checkpoint, "s", 0, 1), "s");
  checkpoint.drop_cache(*checkpoint.find("a"));
  std::string part(2, '?');
  checkpoint.read_bytes(*checkpoint.find("a"), 2, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "cd");
}

TEST(Checkpoint, RefusesRowsThatAreNotThereAndMemoryOfAnotherSize) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  const Checkpoint checkpoint(folder.path());
  const TensorInfo& a = *checkpoint.find("a");
  std::array<std::byte, 6> memory{};
  EXPECT_THROW(checkpoint.read_rows(a, 1, 3, memory), ArgumentError);
  EXPECT_THROW(checkpoint.read_rows(a, -1, 1, memory), ArgumentError);
  EXPECT_THROW(checkpoint.read_rows(a, 1, 0, memory), ArgumentError);
  EXPECT_THROW(checkpoint.read_rows(a, 0, 1, memory), ArgumentError);
  TensorInfo foreign = a;
  foreign.file = 7;
  EXPECT_THROW(checkpoint.read_rows(foreign, 0, 2, memory), ArgumentError);
}

TEST(Checkpoint, RowsOfPackedTypesAreWholeBytesOrRefused) {
  EXPECT_EQ(Checkpoint::row_bytes({.name = "t", .dtype = DType::kF4, .shape = {2, 4}, .bytes = 4}), 2);
  EXPECT_THROW((void)Checkpoint::row_bytes({.name = "t", .dtype = DType::kF4, .shape = {2, 3}, .bytes = 3}),
               ArgumentError);
}

TEST(Checkpoint, ReadsFromSeveralThreadsAtOnce) {
  const TempFolder folder;
  std::string data(64 * 1000, ' ');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>('a' + i % 25);
  folder.write("model.safetensors",
               safetensors_text("{" + entry("t", "U8", "[1000,64]", 0, 64000) + "}", data));
  const Checkpoint checkpoint(folder.path());
  std::array<bool, 4> same{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < same.size(); ++t) {
    threads.emplace_back([&, t] {
      same[t] = true;
      for (int64_t row = static_cast<int64_t>(t); row + 3 <= 1000; row += 7) {
        same[t] =
            same[t] && rows(checkpoint, "t", row, row + 3) == data.substr(static_cast<size_t>(row) * 64, 192);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(same, ::testing::Each(true));
}

TEST(Checkpoint, NamesEveryFileThatIsMissingOrMalformed) {
  const TempFolder folder;
  folder.write("bad.safetensors", "bad");
  write_index(folder, R"({"a":"gone1.safetensors","b":"bad.safetensors","c":"gone2.safetensors"})");
  EXPECT_THAT([&] { Checkpoint checkpoint(folder.path()); },
              ThrowsMessage<FormatError>(
                  AllOf(HasSubstr("3 faults"), HasSubstr("gone1.safetensors: cannot be opened"),
                        HasSubstr("bad.safetensors: not a safetensors file"), HasSubstr("gone2"))));
}

TEST(Checkpoint, NamesEveryTensorThatTheIndexPromisesAndItsFileLacks) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, R"({"a":"two.safetensors","b":"two.safetensors","ghost":"one.safetensors"})");
  EXPECT_THAT(
      [&] { Checkpoint checkpoint(folder.path()); },
      ThrowsMessage<FormatError>(AllOf(HasSubstr("model.safetensors.index.json: 2 faults"),
                                       HasSubstr("tensor 'a' is not in 'two.safetensors' as mapped"),
                                       HasSubstr("tensor 'ghost' is not in 'one.safetensors' as mapped"))));
}

TEST(Checkpoint, RefusesAnIndexThatNamesAFileOfAnUnknownFormat) {
  const TempFolder folder;
  folder.write("w.pt", "");
  write_index(folder, R"({"a":"w.pt"})");
  EXPECT_THAT([&] { Checkpoint checkpoint(folder.path()); },
              ThrowsMessage<FormatError>(
                  HasSubstr("files ending in '.pt' are not read; expected .safetensors or .bin")));
}

TEST(Checkpoint, FollowsTheLinksOfACacheThatKeepsItsFilesElsewhere) {
  const TempFolder folder;
  folder.write("blobs/123", safetensors_text("{" + entry("t", "U8", "[1]", 0, 1) + "}", "x"));
  std::filesystem::create_directory(folder.path() / "snapshot");
  std::filesystem::create_symlink("../blobs/123", folder.path() / "snapshot" / "model.safetensors");
  EXPECT_EQ(rows(Checkpoint(folder.path() / "snapshot"), "t", 0, 1), "x");
}

TEST(Checkpoint, ManyTensorsAreFoundInTimeThatGrowsWithTheirNumber) {
  const TempFolder folder;
  std::string header = "{";
  for (int i = 0; i < 50000; ++i)
    header += (i > 0 ? "," : "") + entry("t" + std::to_string(i), "U8", "[0]", 0, 0);
  folder.write("model.safetensors", safetensors_text(header + "}", ""));
  const Checkpoint checkpoint(folder.path());
  for (int i = 0; i < 50000; ++i) ASSERT_NE(checkpoint.find("t" + std::to_string(i)), nullptr);
}

TEST(Checkpoint, StaysWholeWhenMoved) {
  const TempFolder folder;
  write_shards(folder);
  write_index(folder, kMap);
  Checkpoint first(folder.path());
  const Checkpoint second(std::move(first));
  EXPECT_EQ(rows(second, "a", 0, 1), "abc");
}

}  // namespace
}  // namespace octet
