// SPDX-License-Identifier: Apache-2.0
// What the options save: said before loading, and measured after it on what is stored.
#include "octet/llm/inspect.h"

#include <gtest/gtest.h>

#include "tests/llm/golden_folder.h"

namespace octet {
namespace {

using test::GoldenFolder;

ModelOptions with(const QuantOptions& quant) {
  return {.quant = quant,
          .dtype = {},
          .device = {},
          .load_format = LoadFormat::kAuto,
          .allow_nonfinite = false,
          .progress = {},
          .warn = {}};
}

/// The figures of the options in force.
std::vector<OptionSaving> planned(Model& model) {
  std::vector<OptionSaving> savings;
  for (const OptionSaving& saving : inspect(model, std::nullopt).options) {
    if (saving.in_force) savings.push_back(saving);
  }
  return savings;
}

std::vector<OptionSaving> measured(Model& model) {
  model.load();
  return savings_of_loaded(model, kv_cache_spec(model.decoder(), model.dtype()).bytes_per_token());
}

int64_t saved_by(const std::vector<OptionSaving>& savings, const std::string& option) {
  for (const OptionSaving& saving : savings) {
    if (saving.option == option) return saving.saved_bytes;
  }
  return -1;
}

std::vector<QuantOptions> many_options() {
  std::vector<QuantOptions> all;
  for (const bool raw : {false, true}) {
    for (const auto granularity :
         {std::optional<Granularity>(), std::optional(Granularity::kTensor),
          std::optional(Granularity::kChannel), std::optional(Granularity::kBlock)}) {
      if (raw && granularity && granularity != Granularity::kChannel) continue;
      for (const int tables : {0, 1, 2, 3}) {
        QuantOptions quant;
        quant.quantization = granularity;
        quant.raw_cast = raw;
        quant.fp8_lm_head = (tables & 1) != 0;
        quant.fp8_embedding = (tables & 2) != 0;
        if (!raw || quant.quantizes()) all.push_back(quant);  // a raw cast of nothing is refused
      }
    }
  }
  return all;
}

TEST(Inspect, SaysToTheByteWhatTheLoadedWeightsSaved) {
  for (const char* folder : {"llama_tied", "llama_bias", "qwen3"}) {
    const GoldenFolder golden(folder);
    for (const QuantOptions& quant : many_options()) {
      Model model(golden.path(), with(quant));
      const auto before = planned(model);
      const auto after = measured(model);
      ASSERT_EQ(before.size(), after.size());
      for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(before[i].option, after[i].option);
        EXPECT_EQ(before[i].saved_bytes, after[i].saved_bytes) << folder << " " << before[i].option;
        EXPECT_EQ(before[i].kv_cache_tokens, after[i].kv_cache_tokens);
        EXPECT_TRUE(after[i].in_force);
      }
    }
  }
}

// qwen3 has tables of [67, 40] in 16 bits. The head lies in panels of 64 rows (128 of them), the embedding in
// rows.
TEST(Inspect, CountsScalesAndPaddingOfEachTable) {
  QuantOptions quant;
  quant.quantization.reset();
  quant.fp8_lm_head = quant.fp8_embedding = true;
  Model scaled(GoldenFolder("qwen3").path(), with(quant));
  const auto savings = measured(scaled);
  EXPECT_EQ(saved_by(savings, "--fp8-embedding"), 67 * 40 * 2 - (67 * 40 + 67 * 4));
  const int64_t rows = scaled.backend().weight_layout() == MatrixLayout::kLanes64 ? 128 : 67;
  EXPECT_EQ(saved_by(savings, "--fp8-lm-head"), rows * 40 * 2 - (rows * 40 + 67 * 4));

  quant.raw_cast = true;
  Model raw(GoldenFolder("qwen3").path(), with(quant));
  EXPECT_EQ(saved_by(measured(raw), "--fp8-embedding"), 67 * 40);
}

TEST(Inspect, CountsTheOneTableOfATiedModelForEitherOption) {
  QuantOptions both;
  both.fp8_lm_head = both.fp8_embedding = true;
  QuantOptions head;
  head.fp8_lm_head = true;
  Model with_both(GoldenFolder("llama_tied").path(), with(both));
  Model with_head(GoldenFolder("llama_tied").path(), with(head));
  const auto of_both = measured(with_both);
  const auto of_head = measured(with_head);
  EXPECT_GT(saved_by(of_head, "--fp8-lm-head"), 0);
  EXPECT_EQ(saved_by(of_both, "--fp8-lm-head"), saved_by(of_head, "--fp8-lm-head"));
  EXPECT_EQ(saved_by(of_both, "--fp8-embedding"), saved_by(of_head, "--fp8-lm-head"));
  EXPECT_EQ(saved_by(of_head, "--fp8-embedding"), -1);
}

TEST(Inspect, GivesTheTokensOfCacheThatFitIntoWhatWasSaved) {
  Model model(GoldenFolder("qwen3").path(), with({}));
  model.load();
  const auto savings = savings_of_loaded(model, 100);
  ASSERT_EQ(savings.size(), 1U);
  EXPECT_EQ(savings[0].kv_cache_tokens, savings[0].saved_bytes / 100);
  EXPECT_EQ(savings_of_loaded(model, 0)[0].kv_cache_tokens, 0);
  EXPECT_EQ(to_json(savings)[0]["saved_bytes"], savings[0].saved_bytes);
}

}  // namespace
}  // namespace octet
