// SPDX-License-Identifier: Apache-2.0
// New weights for a model that runs: LLM::reload and its pieces.
#include "octet/llm/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/llm/llm.h"
#include "octet/loading/checkpoint_source.h"
#include "octet/loading/dummy_weights.h"
#include "tests/llm/golden_folder.h"
#include "tests/loading/watched_source.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using test::GoldenFolder;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

LlmOptions options_of(LoadFormat format = LoadFormat::kAuto) {
  LlmOptions options;
  options.model.device.threads = 2;
  options.model.load_format = format;
  options.max_num_seqs = 2;
  return options;
}

GenerateOptions greedy(int64_t tokens) {
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.sampling.max_tokens = tokens;
  options.sampling.ignore_eos = true;
  return options;
}

/// All digests in one text.
std::string digest_of(LLM& llm) {
  return model_digest(llm.model().digests());
}

class Reload : public ::testing::TestWithParam<ReloadMode> {
 protected:
  ReloadOptions mode() const { return {.mode = GetParam()}; }
  std::vector<int32_t> answer(LLM& llm) { return llm.generate(golden_.greedy_prompt(), greedy(6)).ids; }
  void push(WeightLoader& loader, const SourceTensor& tensor) {
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes()));
    source_.read_rows(tensor, 0, tensor.rows(), bytes);
    loader.push({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .bytes = bytes});
  }

  GoldenFolder golden_{"llama_tied"};
  Checkpoint checkpoint_{golden_.path()};
  CheckpointSource source_{checkpoint_};
  LLM expected_{golden_.path(), options_of()};
  LLM live_{golden_.path(), options_of(LoadFormat::kDummy)};
};

TEST_P(Reload, GivesTheWeightsAndAnswersOfALoadAgainAndAgain) {
  const auto ids = answer(expected_);
  const int64_t held = live_.model().ledger().current();
  const std::string old = digest_of(live_);
  const DummyWeights dummy(live_.model().decoder().parameters(), live_.model().source().tensors()[0].dtype);
  for (int round = 0; round < 2; ++round) {
    live_.reload(golden_.path(), mode());
    EXPECT_EQ(digest_of(live_), digest_of(expected_));
    EXPECT_EQ(answer(live_), ids);
    EXPECT_EQ(live_.model().ledger().current(), held);
    live_.reload(dummy, mode());
    EXPECT_EQ(digest_of(live_), old);
  }
}

TEST_P(Reload, ASecondCopyIsPlannedForAndOnlyAtomicTakesOne) {
  const int64_t weights = live_.model().load_report().final_bytes;
  EXPECT_EQ(live_.model().reload_bytes(mode()), GetParam() == ReloadMode::kAtomic ? weights : 0);
  const LoadReport report = live_.reload(source_, mode());
  const int64_t buffers = report.peak_bytes - (GetParam() == ReloadMode::kAtomic ? weights : 0);
  EXPECT_GT(buffers, 0);
  EXPECT_LE(buffers, kLoadingBudget);
}

TEST_P(Reload, AFailureLeavesTheOldWeightsOrAStateThatIsSaidToBeIncompleteUntilAnotherReload) {
  const std::string old = digest_of(live_);
  const auto old_ids = answer(live_);
  FailAt fail(4);
  const WatchedSource failing(source_, [&](const SourceTensor&, int64_t) { fail(); });
  EXPECT_EQ(refusal<FormatError>([&] { live_.reload(failing, mode()); }), "a.safetensors: reading failed");
  if (GetParam() == ReloadMode::kAtomic) {
    EXPECT_EQ(live_.model().incomplete(), "");
    EXPECT_EQ(digest_of(live_), old);
    EXPECT_EQ(answer(live_), old_ids);
  } else {
    EXPECT_THAT(
        refusal<DeviceError>([&] { answer(live_); }),
        AllOf(HasSubstr("the weights are incomplete"), HasSubstr("reading failed"), HasSubstr("reload")));
    // A reload of a part does not make it whole.
    live_.reload(source_, {.mode = GetParam(), .modules = {"model.norm"}});
    EXPECT_THAT(refusal<DeviceError>([&] { answer(live_); }), HasSubstr("still to be loaded"));
  }
  live_.reload(source_, mode());
  EXPECT_EQ(live_.model().incomplete(), "");
  EXPECT_EQ(answer(live_), answer(expected_));
}

TEST_P(Reload, AFailureBeforeTheFirstByteChangesNothing) {
  const std::string old = digest_of(live_);
  const GoldenFolder other("qwen3");
  EXPECT_NE(refusal<FormatError>([&] { live_.reload(other.path(), mode()); }), "accepted");
  EXPECT_EQ(live_.model().incomplete(), "");
  EXPECT_EQ(digest_of(live_), old);
}

TEST_P(Reload, SomeModulesLeaveTheOthersAsTheyWere) {
  const auto before = live_.model().digests();
  const auto wanted = expected_.model().digests();
  live_.reload(source_, {.mode = GetParam(), .modules = {"*.0.mlp.up_proj", "model.norm"}});
  const auto after = live_.model().digests();
  int changed = 0;
  for (size_t i = 0; i < after.size(); ++i) {
    const bool named = after[i].name == "model.norm.weight" ||
                       after[i].name == "model.layers.0.mlp.up_proj.weight" ||
                       after[i].name == "model.layers.0.mlp.gate_proj.weight";  // merged with up_proj
    EXPECT_EQ(after[i].sha256, named ? wanted[i].sha256 : before[i].sha256) << after[i].name;
    changed += named ? 1 : 0;
  }
  EXPECT_EQ(changed, 3);
  EXPECT_THAT(
      refusal<ArgumentError>([&] { live_.reload(source_, {.mode = GetParam(), .modules = {"nobody"}}); }),
      HasSubstr("'nobody' names no module of this model"));
}

TEST_P(Reload, DropsTheCacheSoThatWhatRunsGoesOnWithTheNewWeights) {
  // The sequence has four tokens of the old weights; the fifth is that of the new ones after the same tokens.
  const std::vector<int32_t> prompt = golden_.greedy_prompt();
  Engine& engine = live_.engine();
  engine.add({.prompt = prompt, .params = greedy(5).sampling});
  std::vector<int32_t> tokens = prompt;
  for (int i = 0; i < 4; ++i) tokens.push_back(engine.step().front().token);
  live_.reload(source_, mode());
  std::span<const TokenEvent> events;
  while (events.empty()) events = engine.step();
  EXPECT_EQ(events.front().token, expected_.generate(tokens, greedy(1)).ids.front());
}

TEST_P(Reload, WeightsMayBePushed) {
  const auto old_ids = answer(live_);
  WeightLoader& loader = live_.begin_reload(mode());
  const auto& tensors = source_.tensors();
  for (size_t i = tensors.size(); i-- > 1;) push(loader, tensors[i]);
  if (GetParam() == ReloadMode::kAtomic) {
    EXPECT_EQ(answer(live_), old_ids);
  } else {
    EXPECT_THAT(refusal<DeviceError>([&] { answer(live_); }), HasSubstr("a reload in place is under way"));
  }
  EXPECT_THAT(refusal<ArgumentError>([&] { live_.reload(source_, mode()); }),
              HasSubstr("a reload is under way"));
  push(loader, tensors[0]);
  live_.finish_reload();
  EXPECT_EQ(answer(live_), answer(expected_));
  EXPECT_EQ(digest_of(live_), digest_of(expected_));
}

TEST_P(Reload, APushThatIsAbandonedOrIncompleteIsAFailure) {
  for (const bool abandoned : {true, false}) {
    LLM live(golden_.path(), options_of(LoadFormat::kDummy));
    const auto old_ids = answer(live);
    push(live.begin_reload(mode()), source_.tensors()[0]);
    if (abandoned) {
      live.abandon_reload();
    } else {
      EXPECT_THAT(refusal<FormatError>([&] { live.finish_reload(); }), HasSubstr("missing tensor"));
    }
    if (GetParam() == ReloadMode::kAtomic) {
      EXPECT_EQ(answer(live), old_ids);
    } else {
      EXPECT_THAT(refusal<DeviceError>([&] { answer(live); }), HasSubstr("ended half-way"));
    }
    live.reload(source_, mode());
    EXPECT_EQ(answer(live), answer(expected_));
  }
}

INSTANTIATE_TEST_SUITE_P(BothModes, Reload, ::testing::Values(ReloadMode::kInPlace, ReloadMode::kAtomic),
                         [](const auto& mode) {
                           return mode.param == ReloadMode::kInPlace ? "InPlace" : "Atomic";
                         });

}  // namespace
}  // namespace octet
