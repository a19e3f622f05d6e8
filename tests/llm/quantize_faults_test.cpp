// SPDX-License-Identifier: Apache-2.0
// Every system call of an export fails once, and every so many-th allocation, and files shrink while they are
// read: one error, nothing left behind, and what was there before is there still.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "octet/base/file_reader.h"
#include "octet/llm/quantize.h"
#include "tests/llm/failing_calls.h"
#include "tests/support/source_dir.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using test::Call;
using test::CountedCalls;
using test::Strike;

const std::filesystem::path kModel = source_dir() / "tests/golden/models/llama_tied";

using Files = std::map<std::string, std::string>;

Files files_in(const std::filesystem::path& folder) {
  Files files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string name = std::filesystem::relative(entry.path(), folder).string();
    files[name] = entry.is_regular_file() ? read_text_file(entry.path()) : "a folder";
  }
  return files;
}

class QuantizeFaults : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(place_); }

  /// Returns what was thrown, "" for nothing.
  [[nodiscard]] std::string run(const Strike& strike, const std::filesystem::path& model = kModel) const {
    QuantizeOptions options;
    options.model.device.threads = 2;
    options.format = ExportFormat::kRaw;
    options.max_shard_bytes = 30'000;
    options.overwrite = true;
    const CountedCalls counted(strike);
    try {
      (void)quantize_checkpoint(model, place_ / "out", options);
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }

  /// Fails each `call` in turn and expects either nothing or everything.
  void sweep(Call call, const Files& before, const Files& after) {
    SCOPED_TRACE(to_string(call));
    reset(before);
    ASSERT_EQ(run({}), "");
    ASSERT_EQ(files_in(place_), after);
    const int64_t count = CountedCalls::count(call);
    ASSERT_GT(count, 0);
    int64_t errors = 0;
    for (int64_t number = 1; number <= count; ++number) {
      SCOPED_TRACE(number);
      reset(before);
      const std::string error = run({.call = call, .number = number, .then = {}});
      errors += error.empty() ? 0 : 1;
      EXPECT_EQ(files_in(place_), error.empty() ? after : before) << error;
    }
    EXPECT_GT(errors, 0);
  }

  void reset(const Files& files) const {
    std::filesystem::remove_all(place_);
    std::filesystem::create_directory(place_);
    for (const auto& [name, text] : files) {
      if (text == "a folder") continue;
      folder_.write(std::filesystem::path("place") / name, text);
    }
  }

  TempFolder folder_;
  std::filesystem::path place_ = folder_.path() / "place";
};

TEST_F(QuantizeFaults, LeaveNothingBehindWhicheverCallFails) {
  ASSERT_EQ(run({}), "");
  const Files after = files_in(place_);
  EXPECT_TRUE(after.contains("out/model.safetensors.index.json"));
  for (const Call call :
       {Call::kRead, Call::kWrite, Call::kSync, Call::kRename, Call::kFolder, Call::kCreate})
    sweep(call, {}, after);
}

TEST_F(QuantizeFaults, LeaveTheOldModelWhicheverCallFails) {
  const Files before = {{"out", "a folder"}, {"out/config.json", "{}"}, {"out/old.txt", "old"}};
  ASSERT_EQ(run({}), "");
  const Files after = files_in(place_);
  for (const Call call : {Call::kWrite, Call::kRename, Call::kExchange, Call::kCreate})
    sweep(call, before, after);
}

TEST_F(QuantizeFaults, LeaveNothingBehindWhenMemoryEnds) {
  ASSERT_EQ(run({}), "");
  const Files after = files_in(place_);
  sweep(Call::kMap, {}, after);
  sweep(Call::kAllocate, {}, after);
}

TEST_F(QuantizeFaults, AreToldWithTheFileAndTheReason) {
  EXPECT_THAT(run({.call = Call::kWrite, .number = 3, .then = {}}),
              ::testing::AllOf(::testing::HasSubstr(".safetensors: writing failed"),
                               ::testing::HasSubstr("No space left on device")));
  EXPECT_THAT(run({.call = Call::kRead, .number = 12, .then = {}}),
              ::testing::HasSubstr("Input/output error"));
}

TEST_F(QuantizeFaults, OfAFileThatShrinksWhileItIsReadAreOneErrorThatLeavesNothing) {
  ASSERT_EQ(run({}), "");
  const Files after = files_in(place_);
  const int64_t reads = CountedCalls::count(Call::kRead);
  const std::string weights = read_text_file(kModel / "model.safetensors");
  for (const size_t left : {size_t{0}, weights.size() / 2, weights.size() - 1}) {
    int64_t errors = 0;
    for (int64_t number = 1; number <= reads; ++number) {
      SCOPED_TRACE(std::to_string(left) + " bytes are left at read " + std::to_string(number));
      reset({});
      for (const auto& [name, text] : files_in(kModel)) folder_.write("model/" + name, text);
      const auto file = folder_.path() / "model/model.safetensors";
      const auto shrink = [&] { std::filesystem::resize_file(file, left); };
      const std::string error =
          run({.call = Call::kRead, .number = number, .then = shrink}, folder_.path() / "model");
      EXPECT_EQ(files_in(place_), error.empty() ? after : Files{});
      if (error.empty()) continue;
      ++errors;
      EXPECT_THAT(error, ::testing::AllOf(::testing::HasSubstr("model.safetensors: "),
                                          ::testing::HasSubstr("expected"), ::testing::HasSubstr("found")));
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
    EXPECT_GT(errors, reads / 4);
  }
}

}  // namespace
}  // namespace octet
