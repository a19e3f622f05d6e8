// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "octet/base/error.h"
#include "octet/checkpoint/checkpoint.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::ElementsAre;

const std::vector<TensorDeclaration> kTensors = {{"a.weight", DType::kF8E4M3, {3, 5}},
                                                 {"a.weight_scale", DType::kF32, {3, 1}},
                                                 {"b.weight", DType::kF8E4M3, {1, 7}},
                                                 {"norm", DType::kBF16, {3}},
                                                 {"big", DType::kF32, {100}}};

std::string data_of(size_t index) {
  return std::string(static_cast<size_t>(tensor_bytes(kTensors[index])), static_cast<char>('a' + index));
}

void write_all(CheckpointWriter& writer) {
  for (size_t i = kTensors.size(); i-- > 0;) {
    const std::string data = data_of(i);
    const size_t half = data.size() / 2;
    const auto bytes = std::as_bytes(std::span(data));
    writer.write(i, static_cast<int64_t>(half), bytes.subspan(half));
    writer.write(i, 0, bytes.first(half));
    writer.finish_full_shards();
  }
  writer.finish();
}

std::vector<std::string> files_in(const TempFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void expect_readable(const TempFolder& folder) {
  const Checkpoint checkpoint(folder.path());
  ASSERT_EQ(checkpoint.tensors().size(), kTensors.size());
  for (size_t i = 0; i < kTensors.size(); ++i) {
    const TensorInfo* info = checkpoint.find(kTensors[i].name);
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->offset % (dtype_bits(info->dtype) / 8), 0) << info->name;
    std::string read(static_cast<size_t>(info->bytes), '?');
    checkpoint.read_bytes(*info, 0, std::as_writable_bytes(std::span(read)));
    EXPECT_EQ(read, data_of(i));
  }
}

TEST(CheckpointWriter, WritesOneFileWhereEverythingFits) {
  const TempFolder folder;
  const ShardPlan plan = plan_shards(kTensors, 1000);
  CheckpointWriter writer(folder.path(), plan);
  write_all(writer);
  EXPECT_THAT(files_in(folder), ElementsAre("model.safetensors"));
  EXPECT_EQ(plan.file_bytes,
            static_cast<int64_t>(std::filesystem::file_size(folder.path() / "model.safetensors")));
  expect_readable(folder);
}

TEST(CheckpointWriter, CutsShardsAtTheSizeAskedForAndIndexesThem) {
  const TempFolder folder;
  const ShardPlan plan = plan_shards(kTensors, 30);
  CheckpointWriter writer(folder.path(), plan);
  write_all(writer);
  EXPECT_THAT(files_in(folder),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    bytes += static_cast<int64_t>(entry.file_size());
  EXPECT_EQ(plan.file_bytes, bytes);
  EXPECT_EQ(plan.tensor_bytes, 15 + 12 + 7 + 6 + 400);
  expect_readable(folder);
}

TEST(CheckpointWriter, LeavesNoUnfinishedFileBehind) {
  const TempFolder folder;
  const ShardPlan plan = plan_shards(kTensors, 30);
  {
    CheckpointWriter writer(folder.path(), plan);
    const std::string big = data_of(4);
    writer.write(4, 0, std::as_bytes(std::span(big)).first(100));
    EXPECT_EQ(files_in(folder).size(), 1U);
  }
  EXPECT_TRUE(files_in(folder).empty());
}

TEST(CheckpointWriter, RefusesToFinishWithBytesMissing) {
  const TempFolder folder;
  const ShardPlan plan = plan_shards(kTensors, 1000);
  CheckpointWriter writer(folder.path(), plan);
  EXPECT_THROW(writer.finish(), ArgumentError);
  EXPECT_THROW(writer.write(0, 10, std::as_bytes(std::span(std::string_view("123456")))), ArgumentError);
}

}  // namespace
}  // namespace octet
