// SPDX-License-Identifier: Apache-2.0
#include "octet/models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json llama() {
  return Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 172, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"})");
}

DecoderSpec read(const Json& config) {
  return read_decoder_spec(config, "config.json");
}

std::string message_of(const Json& config) {
  return test::refusal<ConfigError>([&] { (void)read(config); });
}

TEST(Registry, ReadsALlamaConfig) {
  const DecoderSpec spec = read(llama());
  EXPECT_EQ(spec.architecture, "LlamaForCausalLM");
  EXPECT_EQ(spec.hidden_size, 64);
  EXPECT_EQ(spec.head_dim, 8);
  EXPECT_EQ(spec.num_key_value_heads, 4);
  EXPECT_TRUE(spec.tie_word_embeddings);
  EXPECT_EQ(spec.dtype, DType::kF32);
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(spec.bos_token_id, 1);
}

TEST(Registry, BothDialectsOfTransformersMeanTheSame) {
  Json old = llama();
  old["rope_theta"] = 500000.0;
  old["rope_scaling"] = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 128}};
  Json current = llama();
  current.erase("torch_dtype");
  current.erase("rope_theta");
  current["dtype"] = "float32";
  current["rope_parameters"] = old["rope_scaling"];
  current["rope_parameters"]["rope_theta"] = 500000.0;
  const DecoderSpec a = read(old);
  const DecoderSpec b = read(current);
  EXPECT_EQ(a.rope.type, RopeType::kLlama3);
  EXPECT_EQ(b.rope.type, a.rope.type);
  EXPECT_EQ(b.rope.theta, 500000.0);
  EXPECT_EQ(b.rope.theta, a.rope.theta);
  EXPECT_EQ(b.rope.original_max_position_embeddings, 128);
  EXPECT_EQ(b.dtype, a.dtype);
}

TEST(Registry, TakesTheEosAsANumberOrAList) {
  Json config = llama();
  config["eos_token_id"] = {128001, 128008};
  EXPECT_THAT(read(config).eos_token_ids, ElementsAre(128001, 128008));
  config["eos_token_id"] = nullptr;
  EXPECT_TRUE(read(config).eos_token_ids.empty());
}

TEST(Registry, AHeadDimOfItsOwnNeedNotDivideTheHiddenSize) {
  Json config = llama();
  config["architectures"] = {"MistralForCausalLM"};
  config["head_dim"] = 10;
  config["sliding_window"] = 16;
  const DecoderSpec spec = read(config);
  EXPECT_EQ(spec.head_dim, 10);
  EXPECT_EQ(spec.rope.rotary_dim, 10);
  EXPECT_THAT(spec.sliding_windows, ElementsAre(16, 16, 16, 16, 16));
}

TEST(Registry, QwenSlidesOnlyWhereItsConfigSaysSo) {
  Json config = llama();
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["sliding_window"] = 16;
  EXPECT_THAT(read(config).sliding_windows, ElementsAre(0, 0, 0, 0, 0));
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 3;
  EXPECT_THAT(read(config).sliding_windows, ElementsAre(0, 0, 0, 16, 16));
  config["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "full_attention",
                           "full_attention"};
  EXPECT_THAT(read(config).sliding_windows, ElementsAre(16, 0, 0, 0, 0));
  config["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(message_of(config),
              HasSubstr("layer_types: expected one entry for each of the 5 layers, found 1"));
}

TEST(Registry, RefusesAnUnknownArchitectureAndNamesTheKnownOnes) {
  Json config = llama();
  config["architectures"] = {"LlamaForCausalML"};
  EXPECT_THAT(message_of(config), HasSubstr("'LlamaForCausalML' is not supported (known: Deepseek"));
  EXPECT_THROW((void)read(config), UnknownArchitecture);
  config["architectures"] = 7;
  EXPECT_THAT(message_of(config), HasSubstr("architectures: expected a list of one name"));
  config.erase("architectures");
  config.erase("model_type");
  EXPECT_THAT(message_of(config), HasSubstr("found neither"));
  EXPECT_THAT(message_of(Json::array()), HasSubstr("expected a JSON object"));
}

TEST(Registry, ReadsAConfigAsAnyKnownArchitecture) {
  Json config = llama();
  config["architectures"] = {"FooForCausalLM"};
  config["mamba_d_state"] = 16;
  const ArchitectureReading same = read_as(config, "config.json", "LlamaForCausalLM");
  EXPECT_THAT(same.faults, ElementsAre());
  EXPECT_EQ(same.spec.hidden_size, 64);
  EXPECT_THAT(same.unread, ElementsAre("architectures", "model_type", "mamba_d_state"));
  const ArchitectureReading other = read_as(config, "config.json", "OPTForCausalLM");
  EXPECT_THAT(other.faults, ElementsAre(HasSubstr("ffn_dim: expected an integer")));
  EXPECT_THROW((void)read_as(config, "config.json", "FooForCausalLM"), ArgumentError);
}

TEST(Registry, NamesAreNearerTheFewerLettersDiffer) {
  EXPECT_EQ(name_similarity("qwen3_moe", "Qwen3MoeForCausalLM"), 1.0);
  EXPECT_GT(name_similarity("LlamaForCausalML", "LlamaForCausalLM"),
            name_similarity("LlamaForCausalML", "MistralForCausalLM"));
  EXPECT_EQ(name_similarity("", "OPTForCausalLM"), 0.0);
}

TEST(Registry, RefusesMoreExpertsThanAnyModelHasBeforeTheyAreMade) {
  Json config = llama();
  config["architectures"] = {"Qwen3MoeForCausalLM"};
  config["num_hidden_layers"] = 4096;
  config["num_experts"] = 65536;
  EXPECT_THAT(message_of(config),
              HasSubstr("expected at most 65536 experts in all layers, found 4096 layers of 65536"));
  config["num_experts"] = 16;
  EXPECT_EQ(message_of(config), "accepted");
}

TEST(Registry, NamesEveryWrongFieldAtOnce) {
  Json config = llama();
  config["hidden_size"] = "64";
  config["num_attention_heads"] = 0;
  config["num_hidden_layers"] = 1000000000000;
  config["vocab_size"] = -3;
  config.erase("intermediate_size");
  config["hidden_act"] = "gelu";
  config["torch_dtype"] = "int8";
  const std::string message = message_of(config);
  for (const char* field : {"hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size",
                            "intermediate_size", "hidden_act", "torch_dtype"}) {
    EXPECT_THAT(message, HasSubstr(field));
  }
}

TEST(Registry, RefusesRopeThatItCannotCompute) {
  Json config = llama();
  config["rope_scaling"] = {{"rope_type", "longrope"}, {"factor", 2.0}};
  EXPECT_THAT(message_of(config),
              HasSubstr("rope_type: expected default, linear, llama3 or yarn, found \"longrope\""));
  config["rope_scaling"] = {{"rope_type", "linear"}};
  EXPECT_THAT(message_of(config), HasSubstr("factor: expected a number"));
  config["rope_scaling"] = "linear";
  EXPECT_THAT(message_of(config), HasSubstr("rope_scaling: expected an object"));
  config["rope_scaling"] = nullptr;
  config["num_key_value_heads"] = 3;
  EXPECT_THAT(message_of(config),
              HasSubstr("num_key_value_heads: expected a divisor of num_attention_heads 8, found 3"));
  config["num_key_value_heads"] = 4;
  config["head_dim"] = 7;
  EXPECT_THAT(message_of(config), HasSubstr("expected an even number of rotated columns, found 7"));
}

Json opt() {
  return Json::parse(R"({"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 1024,
    "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 50272,
    "word_embed_proj_dim": 512, "do_layer_norm_before": false, "max_position_embeddings": 2048,
    "activation_function": "relu", "bos_token_id": 2, "eos_token_id": 2, "torch_dtype": "float16"})");
}

TEST(Registry, ReadsTheOptThatNormalizesAfterAndProjectsItsTables) {
  const DecoderSpec spec = read(opt());
  EXPECT_EQ(spec.norm_place, NormPlace::kAfter);
  EXPECT_EQ(spec.norm, NormKind::kLayer);
  EXPECT_EQ(spec.final_norm, NormKind::kNone);
  EXPECT_EQ(spec.embedding_size, 512);
  EXPECT_EQ(spec.position_offset, 2);
  EXPECT_TRUE(spec.tie_word_embeddings);
  EXPECT_TRUE(spec.qkv_bias);
  EXPECT_EQ(spec.names.layer_name(3), "model.decoder.layers.3");
  EXPECT_EQ(spec.other_names.front().layer_name(3), "decoder.layers.3");
  EXPECT_EQ(spec.other_names.front().projections.project_in, "decoder.project_in");
  EXPECT_EQ(spec.other_names.front().lm_head, "lm_head");
}

TEST(Registry, RefusesAnOptWhoseActivationItDoesNotCompute) {
  Json config = opt();
  config["activation_function"] = "gelu";
  EXPECT_THAT(message_of(config), HasSubstr("activation_function: expected \"relu\", found \"gelu\""));
}

TEST(Registry, QueriesGrowOnlyWhereEveryColumnOfAHeadIsRotated) {
  Json config = llama();
  config["architectures"] = {"Ministral3ForCausalLM"};
  config["rope_parameters"] = {{"rope_type", "yarn"},
                               {"factor", 2.0},
                               {"original_max_position_embeddings", 128},
                               {"llama_4_scaling_beta", 0.1}};
  EXPECT_EQ(read(config).rope.temperature_beta, 0.1);
  EXPECT_EQ(read(config).rope.temperature_original, 128);
  config["rope_parameters"]["partial_rotary_factor"] = 0.5;
  EXPECT_THAT(message_of(config), HasSubstr("expected 1 beside llama_4_scaling_beta"));
}

}  // namespace
}  // namespace octet
