// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void expect_refusal_of_model(const std::string& model, const std::filesystem::path& cache,
                             const std::string& message) {
  EXPECT_THAT([&] { (void)resolve_model_folder(model, cache); },
              ThrowsMessage<ConfigError>(HasSubstr(message)))
      << model;
}

TEST(ModelFolder, IsTheFolderItself) {
  const TempFolder folder;
  EXPECT_EQ(resolve_model_folder(folder.path().string(), {}), folder.path());
}

TEST(ModelFolder, IsFoundInTheCacheByTheCommitThatMainNames) {
  const TempFolder cache;
  cache.write("models--acme--tiny-1.5/refs/main", "abc123\n");
  cache.write("models--acme--tiny-1.5/snapshots/abc123/config.json", "{}");
  cache.write("models--acme--tiny-1.5/snapshots/def456/config.json", "{}");
  EXPECT_EQ(resolve_model_folder("acme/tiny-1.5", cache.path()),
            cache.path() / "models--acme--tiny-1.5/snapshots/abc123");
}

TEST(ModelFolder, IsFoundInTheCacheWithoutAnOrganisation) {
  const TempFolder cache;
  cache.write("models--gpt2/refs/main", "abc");
  cache.write("models--gpt2/snapshots/abc/config.json", "{}");
  EXPECT_EQ(resolve_model_folder("gpt2", cache.path()), cache.path() / "models--gpt2/snapshots/abc");
}

TEST(ModelFolder, IsTheOnlySnapshotWhereNoneIsCalledMain) {
  const TempFolder cache;
  cache.write("models--a--b/snapshots/one/config.json", "{}");
  EXPECT_EQ(resolve_model_folder("a/b", cache.path()), cache.path() / "models--a--b/snapshots/one");
  cache.write("models--a--b/snapshots/two/config.json", "{}");
  expect_refusal_of_model("a/b", cache.path(), "has no complete snapshot");
}

TEST(ModelFolder, SaysWhatWasTried) {
  const TempFolder cache;
  expect_refusal_of_model(
      "a/b", cache.path(),
      (cache.path() / "models--a--b").string() + " does not exist. Fetch it first: hf download a/b");
  expect_refusal_of_model("a/b", {}, "no Hugging Face cache to look the name up in");
  expect_refusal_of_model("", cache.path(), "not a name of the form org/name");
  expect_refusal_of_model("/no/such/folder", cache.path(), "there is no such folder");
  expect_refusal_of_model(cache.write("file", "").string(), cache.path(), "found a file");
}

TEST(ModelFolder, NeverLeavesTheCache) {
  const TempFolder cache;
  cache.write("evil/config.json", "{}");
  cache.write("models--a--b/refs/main", "../../evil");
  expect_refusal_of_model("a/b", cache.path(), "has no complete snapshot");
  for (const char* model : {"../evil2", "a/..", "a/b/c", "a/b\n", "a b/c"}) {
    expect_refusal_of_model(model, cache.path(), "not a name of the form org/name");
  }
}

}  // namespace
}  // namespace octet
