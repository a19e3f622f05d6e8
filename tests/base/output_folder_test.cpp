// SPDX-License-Identifier: Apache-2.0
#include "octet/base/output_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Existing = OutputFolder::Existing;

class OutputFolders : public ::testing::Test {
 protected:
  void fill(const OutputFolder& output, const std::string& text) const {
    folder_.write(output.staging().filename() / "config.json", text);
  }
  [[nodiscard]] std::string text() const { return read_text_file(target_ / "config.json"); }
  [[nodiscard]] size_t entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_.path()), {}));
  }

  TempFolder folder_;
  std::filesystem::path target_ = folder_.path() / "out";
};

TEST_F(OutputFolders, AppearWhole) {
  OutputFolder output(target_ / "", Existing::kRefuse);
  fill(output, "new");
  EXPECT_FALSE(std::filesystem::exists(target_));
  output.commit();
  EXPECT_EQ(text(), "new");
  EXPECT_EQ(entries(), 1U);
  EXPECT_THROW(output.commit(), ArgumentError);
}

TEST_F(OutputFolders, AreRemovedWithoutACommit) {
  {
    const OutputFolder output(target_, Existing::kRefuse);
    fill(output, "new");
  }
  EXPECT_EQ(entries(), 0U);
}

TEST_F(OutputFolders, TakeThePlaceOfAnEmptyFolder) {
  std::filesystem::create_directory(target_);
  OutputFolder output(target_, Existing::kRefuse);
  fill(output, "new");
  output.commit();
  EXPECT_EQ(text(), "new");
}

TEST_F(OutputFolders, ReplaceAModelOnlyWhenAsked) {
  folder_.write("out/config.json", "old");
  folder_.write("out/deep/file", "old");
  EXPECT_THAT([&] { OutputFolder(target_, Existing::kRefuse); },
              ThrowsMessage<ArgumentError>(HasSubstr("is not empty")));
  {
    const OutputFolder given_up(target_, Existing::kReplace);
    fill(given_up, "new");
  }
  EXPECT_EQ(text(), "old");
  OutputFolder output(target_, Existing::kReplace);
  fill(output, "new");
  EXPECT_EQ(text(), "old");
  output.commit();
  EXPECT_EQ(text(), "new");
  EXPECT_FALSE(std::filesystem::exists(target_ / "deep"));
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFolders, GoWhereALinkLeads) {
  folder_.write("real/config.json", "old");
  std::filesystem::create_directory_symlink(folder_.path() / "real", target_);
  OutputFolder output(target_, Existing::kReplace);
  fill(output, "new");
  output.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(target_));
  EXPECT_EQ(text(), "new");
}

TEST_F(OutputFolders, NeverReplaceWhatIsNoModel) {
  folder_.write("out/letter.txt", "mine");
  EXPECT_THAT([&] { OutputFolder(target_, Existing::kReplace); },
              ThrowsMessage<ArgumentError>(HasSubstr("has no config.json")));
  const auto file = folder_.write("file", "mine");
  EXPECT_THAT([&] { OutputFolder(file, Existing::kReplace); },
              ThrowsMessage<ArgumentError>(HasSubstr("found a file")));
  EXPECT_THAT([&] { OutputFolder(folder_.path() / "no" / "out", Existing::kRefuse); },
              ThrowsMessage<DeviceError>(HasSubstr("cannot be written")));
}

TEST_F(OutputFolders, KnowWhatTheDiskHolds) {
  const OutputFolder output(target_, Existing::kRefuse);
  EXPECT_NO_THROW(output.require_space(1));
  EXPECT_THAT([&] { output.require_space(std::numeric_limits<int64_t>::max()); },
              ThrowsMessage<DeviceError>(HasSubstr("MiB are free")));
}

}  // namespace
}  // namespace octet
