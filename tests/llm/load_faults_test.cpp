// SPDX-License-Identifier: Apache-2.0
// Every read and every allocation of a load fails once, and files shrink while they are read: one error that
// says which file and why, on every rank, and nothing is held afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "octet/base/file_reader.h"
#include "octet/llm/model.h"
#include "tests/comm/thread_world.h"
#include "tests/llm/failing_calls.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using test::Call;
using test::CountedCalls;
using test::golden_models;
using test::Strike;
using ::testing::AllOf;
using ::testing::HasSubstr;

ModelOptions options_of(Granularity granularity, int threads = 2) {
  ModelOptions options;
  options.quant.quantization = granularity;
  options.device.threads = threads;
  return options;
}

std::string digest_of(Model& model) {
  return model_digest(model.digests());
}

/// What opening and loading throws, "" for nothing; then the digest of the weights is in `digest`. A load
/// that failed holds nothing and succeeds when it is tried again, unless `broken` says that the files are.
std::string load(const std::filesystem::path& folder, const Strike& strike, const ModelOptions& options,
                 std::string& digest, bool broken = false) {
  std::unique_ptr<Model> model;
  std::string error;
  int64_t held = 0;
  {
    const CountedCalls counted(strike);
    try {
      model = std::make_unique<Model>(folder, options);
      held = model->ledger().current();
      model->load();
    } catch (const std::exception& thrown) {
      error = thrown.what();
    }
  }
  digest.clear();
  if (!model) return error;
  if (!error.empty()) {
    EXPECT_EQ(model->ledger().current(), held) << error;
    if (broken) return error;
    model->load();
  }
  digest = digest_of(*model);
  return error;
}

TEST(LoadFaults, AnyReadThatFailsIsOneErrorAndTheNextLoadIsWhole) {
  for (const char* name : {"llama_tied", "qwen2_moe"}) {
    const std::filesystem::path folder = golden_models(name);
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
      const ModelOptions options = options_of(granularity);
      std::string expected;
      ASSERT_EQ(load(folder, {}, options, expected), "");
      const int64_t reads = CountedCalls::count(Call::kRead);
      ASSERT_GT(reads, 20);
      for (int64_t number = 1; number <= reads; ++number) {
        SCOPED_TRACE(std::string(name) + ", read " + std::to_string(number));
        std::string digest;
        EXPECT_THAT(load(folder, {.call = Call::kRead, .number = number, .then = {}}, options, digest),
                    AllOf(HasSubstr(folder.string()), HasSubstr("failed: Input/output error")));
        if (!digest.empty()) {
          EXPECT_EQ(digest, expected);
        }
      }
    }
  }
}

TEST(LoadFaults, AFileThatShrinksWhileItIsReadIsOneErrorThatSaysWhatWasExpectedAndFound) {
  const TempFolder temporary;
  const std::filesystem::path folder = temporary.path() / "model";
  const std::filesystem::path file = folder / "model.safetensors";
  std::filesystem::copy(golden_models("llama_tied"), folder);
  const std::string weights = read_text_file(file);
  const ModelOptions options = options_of(Granularity::kBlock);
  std::string expected;
  ASSERT_EQ(load(folder, {}, options, expected), "");
  const int64_t reads = CountedCalls::count(Call::kRead);
  for (const size_t left : {size_t{0}, weights.size() / 2, weights.size() - 1}) {
    int64_t errors = 0;
    for (int64_t number = 1; number <= reads; ++number) {
      SCOPED_TRACE(std::to_string(left) + " bytes are left at read " + std::to_string(number));
      temporary.write("model/model.safetensors", weights);
      const auto shrink = [&] { std::filesystem::resize_file(file, left); };
      std::string digest;
      const std::string error =
          load(folder, {.call = Call::kRead, .number = number, .then = shrink}, options, digest, true);
      if (error.empty()) {  // all that was cut off had been read
        EXPECT_EQ(digest, expected);
        continue;
      }
      ++errors;
      EXPECT_THAT(error, AllOf(HasSubstr(file.string() + ": "), HasSubstr("expected"), HasSubstr("found")));
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
    EXPECT_GT(errors, left == 0 ? reads - 1 : reads / 4);
  }
}

TEST(LoadFaults, AnyMappingOrLargeAllocationThatFailsIsOneErrorAndTheNextLoadIsWhole) {
  const std::filesystem::path folder = golden_models("llama_tied");
  const ModelOptions options = options_of(Granularity::kTensor);
  for (const Call call : {Call::kMap, Call::kAllocate}) {
    std::string expected;
    ASSERT_EQ(load(folder, {}, options, expected), "");
    const int64_t count = CountedCalls::count(call);
    ASSERT_GT(count, 2) << to_string(call);
    for (int64_t number = 1; number <= count; ++number) {
      SCOPED_TRACE(std::string(to_string(call)) + " " + std::to_string(number));
      std::string digest;
      const std::string error = load(folder, {.call = call, .number = number, .then = {}}, options, digest);
      if (!digest.empty()) {
        EXPECT_EQ(digest, expected);
      }
      EXPECT_TRUE(!error.empty() || !digest.empty());
    }
  }
}

TEST(LoadFaults, AnyAllocationOfAnySizeThatFailsWhileWeightsLoadLeavesNothingAndTheNextLoadIsWhole) {
  std::string expected;
  bool struck = true;
  for (int64_t number = 0; number < 2 || struck; ++number) {
    SCOPED_TRACE(number);
    Model model(golden_models("llama_tied"), options_of(Granularity::kBlock));
    const int64_t held = model.ledger().current();
    std::string error;
    {
      const CountedCalls counted({.call = Call::kAllocate, .number = number, .then = {}, .large = 1});
      try {
        model.load();
      } catch (const std::exception& thrown) {
        error = thrown.what();
      }
    }
    struck = CountedCalls::struck();
    EXPECT_TRUE(error.empty() || struck) << error;  // the standard library does without some of its buffers
    if (!error.empty()) {
      EXPECT_EQ(model.ledger().current(), held);
      model.load();
    }
    if (number == 0) expected = digest_of(model);
    EXPECT_EQ(digest_of(model), expected);
    if (!struck && number > 0) {
      EXPECT_GT(number, 100);
    }
  }
}

TEST(LoadFaults, AnyReadThatFailsOnOneOfSeveralRanksIsTheSameErrorOnAll) {
  const std::filesystem::path folder = golden_models("llama_tied");
  for (const int failing : {0, 1}) {
    bool struck = true;
    for (int64_t number = 1; struck; ++number) {
      SCOPED_TRACE("rank " + std::to_string(failing) + ", read " + std::to_string(number));
      std::vector<std::string> errors(2);
      std::vector<int64_t> held(2, 0);
      test::run_ranks(2, [&](Communicator& communicator) {
        const auto rank = static_cast<size_t>(communicator.rank());
        ModelOptions options = options_of(Granularity::kTensor, 1);
        options.communicator = &communicator;
        Model model(folder, options);  // reads on every rank, alone
        const int64_t before = model.ledger().current();
        communicator.barrier();
        if (communicator.rank() == failing) test::count_this_thread();
        std::unique_ptr<CountedCalls> counted;
        if (communicator.rank() == 0) {
          counted = std::make_unique<CountedCalls>(
              Strike{.call = Call::kRead, .number = number, .then = {}, .one_thread = true});
        }
        communicator.barrier();
        try {
          model.load();
        } catch (const FormatError& error) {
          errors[rank] = error.what();
        }
        held[rank] = model.ledger().current() - before;
        communicator.barrier();
      });
      struck = CountedCalls::struck();
      EXPECT_EQ(errors[0], errors[1]);
      if (!struck) {
        EXPECT_EQ(errors[0], "");
        EXPECT_GT(number, 15);
        continue;
      }
      EXPECT_THAT(errors[0], AllOf(HasSubstr("rank " + std::to_string(failing) + ": " + folder.string()),
                                   HasSubstr("Input/output error")));
      EXPECT_EQ(held[0] + held[1], 0);
    }
  }
}

}  // namespace
}  // namespace octet
