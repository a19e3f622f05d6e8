// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void expect_refusal_of_folder(const TempFolder& folder, const std::string& message) {
  EXPECT_THAT([&] { (void)find_checkpoint_files(folder.path()); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr(folder.path().string()), HasSubstr(message))));
}

void write_index_with_metadata(const TempFolder& folder, const std::string& weight_map) {
  folder.write("model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":1},\"weight_map\":" + weight_map + "}");
}

TEST(CheckpointFolder, TakesTheSingleFile) {
  const TempFolder folder;
  folder.write("model.safetensors", "");
  folder.write("consolidated.safetensors", "");
  EXPECT_THAT(find_checkpoint_files(folder.path()).names, ElementsAre("model.safetensors"));
}

TEST(CheckpointFolder, TakesTheOnlyFileWhateverItsName) {
  const TempFolder folder;
  folder.write("weights.safetensors", "");
  folder.write("config.json", "");
  EXPECT_THAT(find_checkpoint_files(folder.path()).names, ElementsAre("weights.safetensors"));
}

TEST(CheckpointFolder, IsReadByItsIndexThoughItHoldsTheSameWeightsTwice) {
  const TempFolder folder;
  folder.write("consolidated.safetensors", "");
  folder.write("model.safetensors", "");
  write_index_with_metadata(
      folder, R"({"x":"model-2.safetensors","a":"model-1.safetensors","b":"model-2.safetensors"})");
  const auto files = find_checkpoint_files(folder.path());
  EXPECT_THAT(files.names, ElementsAre("model-1.safetensors", "model-2.safetensors"));
  EXPECT_EQ(files.file_of.at("a"), 0U);
  EXPECT_EQ(files.file_of.at("b"), 1U);
  EXPECT_EQ(files.file_of.at("x"), 1U);
}

TEST(CheckpointFolder, RefusesShardsWithoutAnIndexAndNamesThem) {
  const TempFolder folder;
  folder.write("model-00001-of-00002.safetensors", "");
  folder.write("model-00002-of-00002.safetensors", "");
  expect_refusal_of_folder(
      folder,
      "2 safetensors files without a model.safetensors.index.json that says which belong together: "
      "'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'");
}

TEST(CheckpointFolder, TakesPickledWeightsOnlyWhereThereAreNoOthers) {
  const TempFolder folder;
  folder.write("pytorch_model.bin", "");
  EXPECT_THAT(find_checkpoint_files(folder.path()).names, testing::ElementsAre("pytorch_model.bin"));
  folder.write("pytorch_model.bin.index.json", R"({"weight_map": {"a": "x.bin"}})");
  EXPECT_THAT(find_checkpoint_files(folder.path()).names, testing::ElementsAre("x.bin"));
  EXPECT_EQ(find_checkpoint_files(folder.path()).index_name, "pytorch_model.bin.index.json");
  folder.write("model.safetensors", "");
  EXPECT_THAT(find_checkpoint_files(folder.path()).names, testing::ElementsAre("model.safetensors"));
}

TEST(CheckpointFolder, SaysThatPickledFilesOfOtherNamesAreNotRead) {
  const TempFolder folder;
  folder.write("config.json", "{}");
  folder.write("training_args.bin", "");
  expect_refusal_of_folder(folder, "found 'training_args.bin': files of other names are not read");
}

TEST(CheckpointFolder, SaysWhatItFoundInstead) {
  const TempFolder folder;
  expect_refusal_of_folder(folder,
                           "expected model.safetensors.index.json or model.safetensors, found nothing");
  folder.write("README.md", "");
  expect_refusal_of_folder(folder, "found 'README.md'");
  folder.write("model.gguf", "");
  expect_refusal_of_folder(folder, "GGUF is not read");
}

TEST(CheckpointFolder, RefusesAMissingFolderAndAFile) {
  const TempFolder folder;
  folder.write("file", "");
  EXPECT_THAT([&] { (void)find_checkpoint_files(folder.path() / "none"); },
              ThrowsMessage<FormatError>(HasSubstr("not a folder that can be read")));
  EXPECT_THROW((void)find_checkpoint_files(folder.path() / "file"), FormatError);
}

TEST(CheckpointFolder, RefusesAnIndexThatLeavesTheFolder) {
  const TempFolder folder;
  for (const char* name : {"../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ".", "",
                           "a\\\\b", "a\\u0000b"}) {
    write_index_with_metadata(folder, "{\"t\":\"" + std::string(name) + "\"}");
    expect_refusal_of_folder(folder, "weight_map: 't': expected a plain file name inside the folder, found");
  }
}

TEST(CheckpointFolder, RefusesAMalformedIndex) {
  const TempFolder folder;
  write_index_with_metadata(folder, "[]");
  expect_refusal_of_folder(folder,
                           "weight_map: expected an object of tensor names and file names, found array");
  write_index_with_metadata(folder, "{}");
  expect_refusal_of_folder(folder, "names no tensor");
  write_index_with_metadata(folder, R"({"a":1,"b":null})");
  expect_refusal_of_folder(folder, "2 faults");
  write_index_with_metadata(folder, R"({"a":"f","a":"g"})");
  expect_refusal_of_folder(folder, "'a' occurs twice");
  folder.write("model.safetensors.index.json", "{}");
  expect_refusal_of_folder(folder,
                           "weight_map: expected an object of tensor names and file names, found nothing");
  folder.write("model.safetensors.index.json", "");
  expect_refusal_of_folder(folder, "not valid JSON");
  folder.write("model.safetensors.index.json", "[]");
  expect_refusal_of_folder(folder, "expected an object");
}

}  // namespace
}  // namespace octet
