// SPDX-License-Identifier: Apache-2.0
#include "octet/base/output_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>

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

TEST_F(OutputFolders, OfProcessesThatWereKilledAreRemovedAndTold) {
  // One has the number of this process, as happens in containers; none is locked.
  const std::string own = "out.incomplete-" + std::to_string(::getpid());
  for (const std::string& name :
       {own, std::string("out.incomplete-4000000000"), std::string("out.incomplete-7")})
    folder_.write(name + "/model.safetensors", "half");
  const std::vector<std::string> others = {"out.incomplete-",    "out.incomplete-7.old", "out.incomplete-x7",
                                           "other.incomplete-7", "xout.incomplete-7",    "out.incomplete-7x"};
  for (const std::string& name : others) folder_.write(name + "/kept", "mine");
  folder_.write("out.incomplete-8", "a file");
  std::filesystem::create_directory_symlink(folder_.path() / "other.incomplete-7",
                                            folder_.path() / "out.incomplete-9");
  {
    const OutputFolder output(target_, Existing::kRefuse);
    EXPECT_THAT(output.removed(),
                ::testing::UnorderedElementsAre(folder_.path() / own, folder_.path() / "out.incomplete-7",
                                                folder_.path() / "out.incomplete-4000000000"));
    EXPECT_TRUE(std::filesystem::is_empty(output.staging()));
  }
  EXPECT_EQ(entries(), others.size() + 2);
  EXPECT_THAT(OutputFolder(target_, Existing::kRefuse).removed(), ::testing::IsEmpty());
}

TEST_F(OutputFolders, OfLivingProcessesStay) {
  const OutputFolder living(target_, Existing::kRefuse);
  fill(living, "new");
  const std::filesystem::path elsewhere = folder_.path() / "out.incomplete-1";
  std::filesystem::rename(living.staging(), elsewhere);  // as if its process had that number
  {
    const OutputFolder output(target_, Existing::kRefuse);
    EXPECT_THAT(output.removed(), ::testing::IsEmpty());
  }
  EXPECT_EQ(read_text_file(elsewhere / "config.json"), "new");
  std::filesystem::rename(elsewhere, living.staging());
  EXPECT_THAT([&] { (void)OutputFolder(target_, Existing::kRefuse); },
              ThrowsMessage<DeviceError>(HasSubstr("File exists")));
}

TEST_F(OutputFolders, ArePreparedBySeveralProcessesAtOnce) {
  // Threads stand for processes; they have one number, so that most find the name taken.
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        try {
          const OutputFolder output(target_, Existing::kRefuse);
          failures += std::filesystem::is_directory(output.staging()) ? 0 : 1;
        } catch (const DeviceError&) {
          continue;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
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
