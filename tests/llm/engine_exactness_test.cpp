// SPDX-License-Identifier: Apache-2.0
// What the engine promises to the bit: a sequence's logits do not depend on threads, on the batch, or on
// chunks; and a step takes no memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "octet/engine/engine.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/refusal.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};

void* counted(size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* data = std::malloc(bytes)) return data;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t bytes) {
  return counted(bytes);
}
void* operator new[](size_t bytes) {
  return counted(bytes);
}
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes);
}
void* operator new[](size_t bytes, const std::nothrow_t& tag) noexcept {
  return operator new(bytes, tag);
}
void operator delete(void* data) noexcept {
  std::free(data);
}
void operator delete[](void* data) noexcept {
  std::free(data);
}
void operator delete(void* data, size_t) noexcept {
  std::free(data);
}
void operator delete[](void* data, size_t) noexcept {
  std::free(data);
}

namespace octet {
namespace {

using test::GoldenFolder;

struct Case {
  std::string folder;
  int threads = 1;
  DType dtype = DType::kBF16;
  DType kv_dtype = DType::kBF16;
  ActivationScheme scheme = ActivationScheme::kNone;
  std::optional<Granularity> quantization = Granularity::kChannel;
};

std::unique_ptr<Model> loaded(const Case& c) {
  ModelOptions options;
  options.dtype = c.dtype;
  options.device = {.device = "cpu", .threads = c.threads, .isa = {}};
  options.quant.quantization = c.quantization;
  options.quant.activation_scheme = c.scheme;
  auto model = std::make_unique<Model>(GoldenFolder(c.folder).path(), options);
  model->load();
  return model;
}

std::vector<int32_t> prompt(int64_t length, int32_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((i * 7 + seed * 13 + 3) % 60));
  return ids;
}

std::vector<float> logits(const Case& c, const std::vector<int32_t>& ids, int64_t chunk) {
  const auto model = loaded(c);
  Engine engine(model->decoder(),
                {.max_model_len = 96, .max_step_tokens = chunk, .kv_cache_dtype = c.kv_dtype});
  std::vector<float> all;
  engine.prompt_logits(ids, [&](int64_t, ConstTensorView rows) {
    for (int64_t row = 0; row < rows.rows(); ++row)
      all.insert(all.end(), rows.row<float>(row), rows.row<float>(row) + rows.cols());
  });
  return all;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* folder : {"qwen3", "mistral_window", "llama_bias"}) {
    all.push_back({.folder = folder});
    all.push_back({.folder = folder, .dtype = DType::kF32, .kv_dtype = DType::kF32});
    all.push_back({.folder = folder, .kv_dtype = DType::kF8E4M3});
    all.push_back({.folder = folder, .scheme = ActivationScheme::kDynamic});
    all.push_back(
        {.folder = folder, .scheme = ActivationScheme::kDynamic, .quantization = Granularity::kBlock});
  }
  return all;
}

TEST(Exactness, LogitsHaveTheSameBitsHoweverThePromptIsCut) {
  for (const Case& c : cases()) {
    const auto whole = logits(c, prompt(70, 1), 96);
    for (const int64_t chunk : {1, 7, 32, 64})
      EXPECT_EQ(logits(c, prompt(70, 1), chunk), whole) << c.folder << " " << chunk;
  }
}

TEST(Exactness, LogitsHaveTheSameBitsForAnyNumberOfThreads) {
  for (Case c : cases()) {
    const auto one = logits(c, prompt(40, 2), 96);
    for (const int threads : {2, 3, 5}) {
      c.threads = threads;
      EXPECT_EQ(logits(c, prompt(40, 2), 96), one) << c.folder << " " << threads;
    }
  }
}

/// Ids of requests that run together (as far as `together` allows), each sampled with its own seed.
std::vector<std::vector<int32_t>> generate(const Case& c, int64_t together, int64_t cache_tokens) {
  const auto model = loaded(c);
  Engine engine(model->decoder(), {.max_num_seqs = together,
                                   .max_model_len = 96,
                                   .max_step_tokens = 24,
                                   .kv_cache_dtype = c.kv_dtype,
                                   .kv_cache_tokens = cache_tokens});
  std::map<int64_t, std::vector<int32_t>> ids;
  for (int32_t i = 0; i < 6; ++i) {
    const SamplingParams params{
        .temperature = 0.8, .seed = static_cast<uint64_t>(i), .max_tokens = 30, .ignore_eos = true};
    ids[engine.add({.prompt = prompt(5 + 9 * i, i), .params = params})];
  }
  while (engine.has_work()) {
    for (const TokenEvent& event : engine.step()) ids[event.sequence].push_back(event.token);
  }
  std::vector<std::vector<int32_t>> all;
  for (auto& [id, tokens] : ids) all.push_back(std::move(tokens));
  return all;
}

TEST(Exactness, ASequenceIsTheSameAloneAndInABatchAndWhenItHadToGiveWay) {
  for (const Case& c : cases()) {
    const auto alone = generate(c, 1, 96);
    for (const auto& ids : alone) EXPECT_EQ(ids.size(), 30U);
    EXPECT_EQ(generate(c, 6, 6 * 96), alone) << c.folder;
    EXPECT_EQ(generate(c, 6, 160), alone)
        << c.folder << " with a cache so small that sequences are computed anew";
  }
}

TEST(Exactness, ADecodeStepTakesNoMemory) {
  for (Case c : cases()) {
    c.threads = 2;
    const auto model = loaded(c);
    Engine engine(model->decoder(), {.max_num_seqs = 2, .max_model_len = 96, .kv_cache_dtype = c.kv_dtype});
    for (int32_t i = 0; i < 2; ++i) {
      engine.add({.prompt = prompt(20, i),
                  .params = {.temperature = 0.8,
                             .top_k = 20,
                             .top_p = 0.9,
                             .seed = 1,
                             .max_tokens = 50,
                             .ignore_eos = true}});
    }
    for (int step = 0; step < 3; ++step) engine.step();
    const int64_t held = model->ledger().current();
    model->ledger().restart_peak();
    allocations = 0;
    counting = true;
    for (int step = 0; step < 40; ++step) engine.step();
    counting = false;
    EXPECT_EQ(allocations, 0) << c.folder;
    EXPECT_EQ(model->ledger().peak(), held) << c.folder;
  }
}

TEST(Engine, RefusesPromptsThatCannotRunAndSaysWhy) {
  const auto model = loaded({.folder = "llama_tied"});
  Engine engine(model->decoder(), {.max_model_len = 32});
  const auto message = [&](std::vector<int32_t> ids) -> std::string {
    return test::refusal<ArgumentError>([&] { engine.add({.prompt = std::move(ids), .params = {}}); });
  };
  EXPECT_THAT(message({}), ::testing::HasSubstr("expected at least one token"));
  EXPECT_THAT(message({0, -1}), ::testing::HasSubstr("prompt[1]: expected a token id from 0 to"));
  EXPECT_THAT(message({1000000}), ::testing::HasSubstr("found 1000000"));
  EXPECT_THAT(message(prompt(32, 0)),
              ::testing::HasSubstr("expected at most 31 tokens (the context length is 32"));
}

TEST(Engine, EndsAtTheContextAtMaxTokensAndAtStopTokens) {
  const auto model = loaded({.folder = "llama_tied"});
  const auto finish = [&](const SamplingParams& params) {
    Engine engine(model->decoder(), {.max_model_len = 32});
    engine.add({.prompt = prompt(20, 1), .params = params});
    std::vector<TokenEvent> events;
    while (engine.has_work()) {
      for (const TokenEvent& event : engine.step()) events.push_back(event);
    }
    return events;
  };
  const auto context = finish({.temperature = 0, .max_tokens = 1000, .ignore_eos = true});
  EXPECT_EQ(context.size(), 12U);
  EXPECT_EQ(context.back().finished, FinishReason::kLength);
  const auto few = finish({.temperature = 0, .max_tokens = 3, .ignore_eos = true});
  EXPECT_EQ(few.size(), 3U);
  const int32_t third = context[2].token;
  const auto stopped =
      finish({.temperature = 0, .max_tokens = 1000, .ignore_eos = true, .stop_token_ids = {third}});
  EXPECT_LE(stopped.size(), 3U);
  EXPECT_EQ(stopped.back().finished, FinishReason::kStop);
}

TEST(Engine, ACancelledSequenceGivesNoMoreEvents) {
  const auto model = loaded({.folder = "llama_tied"});
  Engine engine(model->decoder(), {.max_num_seqs = 2, .max_model_len = 64});
  const int64_t first =
      engine.add({.prompt = prompt(5, 1), .params = {.max_tokens = 40, .ignore_eos = true}});
  const int64_t second =
      engine.add({.prompt = prompt(5, 2), .params = {.max_tokens = 10, .ignore_eos = true}});
  engine.step();
  engine.cancel(first);
  engine.cancel(12345);
  int64_t seen = 1;
  while (engine.has_work()) {
    for (const TokenEvent& event : engine.step()) {
      EXPECT_EQ(event.sequence, second);
      ++seen;
    }
  }
  EXPECT_EQ(seen, 10);
}

TEST(Engine, AFailingVisitGivesTheBlocksBack) {
  const auto model = loaded({.folder = "llama_tied"});
  Engine engine(model->decoder(), {.max_model_len = 64});
  for (int i = 0; i < 5; ++i) {  // more often than the cache has room for
    EXPECT_THROW(
        engine.prompt_logits(prompt(60, i), [](int64_t, ConstTensorView) { throw Interrupted("stop"); }),
        Interrupted);
  }
  int64_t rows = 0;
  engine.prompt_logits(prompt(60, 1), [&](int64_t, ConstTensorView logits) { rows += logits.rows(); });
  EXPECT_EQ(rows, 60);
}

TEST(Engine, RefusesACacheWhoseTokensASlotCannotCount) {
  const auto model = loaded({.folder = "llama_tied"});
  for (const EngineOptions& options : {EngineOptions{.kv_cache_tokens = int64_t{1} << 31},
                                       EngineOptions{.max_model_len = int64_t{1} << 60}}) {
    try {
      const Engine engine(model->decoder(), options);
      FAIL() << "accepted";
    } catch (const ArgumentError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("slots count the tokens of the cache with an int32"));
    }
  }
}

}  // namespace
}  // namespace octet
