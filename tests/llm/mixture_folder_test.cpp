// SPDX-License-Identifier: Apache-2.0
// Folders of mixtures and of latent attention as they may come: with layers that predict further tokens, and
// with faults, each of which is named.
#include <gtest/gtest.h>

#include "tests/llm/changed_folder.h"
#include "tests/llm/golden_folder.h"

namespace octet {
namespace {

using test::Changed;
using test::expect_contains;
using test::FileTensors;
using test::golden_models;
using test::plain_options;

TEST(MixtureFolders, NameBothNumbersOfExpertsWhereConfigurationAndFilesDisagree) {
  Changed more("qwen2_moe");
  more.fields["num_experts"] = 6;
  expect_contains(more.refusal<FormatError>(),
                  "'model.layers.0.mlp.experts': the configuration has 6 experts, the files have 5 experts");
  Changed fewer("mixtral");
  fewer.fields["num_local_experts"] = 4;
  expect_contains(
      fewer.refusal<FormatError>(),
      "'model.layers.1.block_sparse_moe.experts': the configuration has 4 experts, the files have "
      "5 experts");
  Changed fused("mixtral_fused");
  fused.fields["num_local_experts"] = 4;
  expect_contains(fused.refusal<FormatError>(), "the configuration has 4 experts, the tensor has 5 experts");
}

TEST(MixtureFolders, RefuseMoreExpertsPerTokenThanThereAre) {
  Changed folder("qwen3_moe");
  folder.fields["num_experts_per_tok"] = 7;
  expect_contains(folder.refusal<ConfigError>(),
                  "num_experts_per_tok: expected at most num_local_experts 6, found 7");
}

TEST(MixtureFolders, NameAMissingCorrectionBiasOfTheRouter) {
  Changed folder("glm4_moe_lite");
  folder.tensors.erase("model.layers.1.mlp.gate.e_score_correction_bias");
  expect_contains(
      folder.refusal<FormatError>(),
      "missing tensor 'model.layers.1.mlp.gate.e_score_correction_bias', expected with shape [6]");
}

TEST(MixtureFolders, NameTheTensorsThatLowRankSizesDoNotFit) {
  Changed folder("glm4_moe_lite");
  folder.fields["kv_lora_rank"] = 16;
  folder.fields["q_lora_rank"] = 18;
  const std::string message = folder.refusal<FormatError>();
  expect_contains(message,
                  "'model.layers.0.self_attn.q_a_proj.weight': expected shape [18, 24], found [20, 24]");
  expect_contains(
      message,
      "'model.layers.0.self_attn.kv_a_proj_with_mqa.weight': expected shape [22, 24], found [18, 24]");
  expect_contains(message,
                  "'model.layers.0.self_attn.kv_b_proj.weight': expected shape [96, 16], found [96, 12]");
}

TEST(MixtureFolders, RefuseLatentAttentionWithoutItsSizes) {
  Changed folder("deepseek_v3");
  folder.fields["kv_lora_rank"] = nullptr;
  folder.fields["v_head_dim"] = 0;
  const std::string message = folder.refusal<ConfigError>();
  expect_contains(message, "kv_lora_rank");
  expect_contains(message, "v_head_dim");
}

TEST(MixtureFolders, SkipTheLayersThatPredictFurtherTokensAndListThem) {
  Changed folder("glm4_moe_lite");
  folder.fields["num_nextn_predict_layers"] = 1;
  const FileTensors of_last = folder.tensors;
  constexpr std::string_view kLast = "model.layers.1.";
  for (const auto& [name, tensor] : of_last) {
    if (name.starts_with(kLast)) folder.tensors["model.layers.2." + name.substr(kLast.size())] = tensor;
  }
  folder.tensors["model.layers.2.eh_proj.weight"] = test::float_tensor({1}, {1.0F});
  const std::unique_ptr<Model> model = folder.open();
  model->load();
  EXPECT_TRUE(model->load_report().unused.empty());
  int skipped = 0;
  for (const WeightRecord& record : model->load_report().weights)
    skipped += record.use == TensorUse::kSkipped ? 1 : 0;
  EXPECT_EQ(skipped, static_cast<int>(folder.tensors.size() - of_last.size()));
  Model whole(golden_models("glm4_moe_lite"), plain_options());
  whole.load();
  EXPECT_EQ(test::folder_logits(*model), test::folder_logits(whole));
}

TEST(MixtureFolders, CacheOneShortVectorForEachTokenOfLatentAttention) {
  Model model(golden_models("glm4_moe_lite"), plain_options());
  const KvCacheSpec cache = kv_cache_spec(model.decoder(), DType::kBF16);
  EXPECT_EQ(cache.bytes_per_token(), 2 * (12 + 6) * 2);  // layers, numbers, bytes
  EXPECT_EQ(kv_cache_spec(model.decoder(), DType::kF8E4M3).bytes_per_token(), 2 * (12 + 6 + 4));
}

TEST(MixtureFolders, GroupExpertsOnTheirOwnInThePlan) {
  for (const char* name : {"qwen2_moe", "mixtral", "mixtral_fused", "qwen3_moe_transposed"}) {
    Model model(golden_models(name), plain_options());
    int64_t experts = 0;
    for (const PlanGroup& group : model.plan().groups)
      experts += group.name == "experts" ? group.elements : 0;
    int64_t expected = 0;
    for (const Parameter& parameter : model.decoder().parameters()) {
      // The gate of a shared expert is a row of the router's matrix.
      if (parameter.name.find("expert") != std::string::npos &&
          !parameter.name.ends_with("shared_expert_gate.weight"))
        expected += parameter.shape.elements();
    }
    EXPECT_EQ(experts, expected) << name;
  }
}

TEST(MixtureFolders, LoadAgainFromFp8FilesOfEveryDialectWithTheSameLogits) {
  for (const char* name : {"qwen2_moe", "glm4_moe_lite"}) {
    struct Case {
      Granularity granularity;
      test::ScaleDialect dialect;
      Json quantization;
    };
    const std::vector<Case> cases = {
        {Granularity::kChannel,
         test::ScaleDialect::kColumn,
         {{"quant_method", "compressed-tensors"}, {"format", "float-quantized"}}},
        {Granularity::kBlock,
         test::ScaleDialect::kBlockInverse,
         {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}},
        {Granularity::kTensor, test::ScaleDialect::kScalar, {{"quant_method", "fp8"}}}};
    for (const Case& what : cases) {
      ModelOptions options = plain_options();
      options.quant.quantization = what.granularity;
      Model quantized(golden_models(name), options);
      quantized.load();
      const TempFolder folder;
      test::write_folder(folder.path(), golden_models(name), what.quantization,
                         test::tensors_of(quantized, what.dialect));
      Model adopted(folder.path(), plain_options());
      adopted.load();
      EXPECT_EQ(test::folder_logits(adopted), test::folder_logits(quantized)) << name;
    }
  }
}

}  // namespace
}  // namespace octet
