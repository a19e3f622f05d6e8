// SPDX-License-Identifier: Apache-2.0
// Every architecture against the logits that transformers computed on tiny models of odd sizes.
#include <gtest/gtest.h>

#include "octet/engine/engine.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using test::GoldenFolder;
using test::relative_difference;

constexpr double kTolerance = 1e-4;

std::vector<std::string> folders() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "tests/golden/models")) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  names.insert(names.end(), {"deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "glm4_moe_lite", "ministral3",
                             "mixtral", "mixtral_fused", "opt", "opt_plain", "opt_post_norm", "qwen2_moe",
                             "qwen2_moe_mixed", "qwen3_moe", "qwen3_moe_transposed"});
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<BackendOptions> devices() {
  std::vector<BackendOptions> all = {{.device = "reference", .threads = 1, .isa = {}}};
  for (const CpuIsa isa : supported_isas()) all.push_back({.device = "cpu", .threads = 2, .isa = isa});
  return all;
}

std::string name_of(const BackendOptions& device) {
  return device.device + (device.isa ? " " + std::string(to_string(*device.isa)) : "");
}

ModelOptions float32(const BackendOptions& device, const QuantOptions& quant) {
  return {.quant = quant,
          .dtype = DType::kF32,
          .device = device,
          .load_format = LoadFormat::kAuto,
          .allow_nonfinite = false,
          .progress = {},
          .warn = {}};
}

QuantOptions unquantized() {
  QuantOptions quant;
  quant.quantization.reset();
  return quant;
}

std::vector<float> logits_of(Engine& engine, const std::vector<int32_t>& ids) {
  std::vector<float> all;
  engine.prompt_logits(ids, [&](int64_t first, ConstTensorView logits) {
    EXPECT_EQ(first * logits.cols(), static_cast<int64_t>(all.size()));
    for (int64_t row = 0; row < logits.rows(); ++row) {
      all.insert(all.end(), logits.row<float>(row), logits.row<float>(row) + logits.cols());
    }
  });
  return all;
}

void expect_logits(const GoldenFolder& golden, const BackendOptions& device, const QuantOptions& quant,
                   const std::string& variant) {
  Model model(golden.path(), float32(device, quant));
  model.load();
  Engine engine(model.decoder(), {.max_model_len = 96, .max_step_tokens = 33, .kv_cache_dtype = DType::kF32});
  const auto sequences = golden.sequences();
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_LT(relative_difference(logits_of(engine, sequences[i]), golden.logits(variant, i)), kTolerance)
        << golden.path() << " " << name_of(device) << " " << variant << " sequence " << i;
  }
}

class GoldenModels : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenModels, LogitsInFloat32EqualThoseOfTransformers) {
  const GoldenFolder golden(GetParam());
  for (const BackendOptions& device : devices()) expect_logits(golden, device, unquantized(), "");
}

TEST_P(GoldenModels, ContinuesGreedilyAsTransformersDoes) {
  const GoldenFolder golden(GetParam());
  Model model(golden.path(), float32({}, unquantized()));
  model.load();
  Engine engine(model.decoder(), {.max_model_len = 96, .max_step_tokens = 3, .kv_cache_dtype = DType::kF32});
  engine.add(
      {.prompt = golden.greedy_prompt(), .params = {.temperature = 0, .max_tokens = 20, .ignore_eos = true}});
  std::vector<int32_t> ids;
  while (engine.has_work()) {
    for (const TokenEvent& event : engine.step()) ids.push_back(event.token);
  }
  EXPECT_EQ(ids, golden.greedy_ids());
}

/// The options that a variant's name stands for.
QuantOptions variant_options(std::string variant) {
  QuantOptions quant;
  if (const auto tables = variant.find("_tables"); tables != std::string::npos) {
    quant.fp8_lm_head = quant.fp8_embedding = true;
    variant.erase(tables);
  }
  if (variant == "fp8_per_tensor") quant.quantization = Granularity::kTensor;
  if (variant == "fp8_per_block") quant.quantization = Granularity::kBlock;
  if (variant == "fp8_e5m2_per_channel") quant.fp8_format = DType::kF8E5M2;
  if (variant == "raw_cast") quant.raw_cast = true;
  return quant;
}

TEST_P(GoldenModels, LogitsOfStoredFp8EqualThoseOfTransformersOnDequantizedWeights) {
  const GoldenFolder golden(GetParam());
  const std::vector<std::string> variants = golden.json()["variants"];
  if (variants.empty()) GTEST_SKIP() << "no quantized logits for " << GetParam();
  for (const std::string& variant : variants) {
    for (const BackendOptions& device : devices())
      expect_logits(golden, device, variant_options(variant), variant);
  }
}

TEST(PickledModel, FilesOfTorchSaveGiveTheLogitsThatSafetensorsGive) {
  const GoldenFolder golden("opt");
  const auto pickled = source_dir() / "tests/golden/pickles/opt_bin";
  for (const auto& [options, variant] :
       {std::pair(unquantized(), std::string()),
        std::pair(variant_options("fp8_per_block_tables"), std::string("fp8_per_block_tables"))}) {
    Model model(pickled, float32({}, options));
    EXPECT_EQ(model.spec().names.embed_tokens, "decoder.embed_tokens");
    const LoadReport& report = model.load();
    EXPECT_TRUE(report.unused.empty());
    Engine engine(model.decoder(),
                  {.max_model_len = 64, .max_step_tokens = 33, .kv_cache_dtype = DType::kF32});
    const auto sequences = golden.sequences();
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_LT(relative_difference(logits_of(engine, sequences[i]), golden.logits(variant, i)), kTolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenModels, ::testing::ValuesIn(folders()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace octet
