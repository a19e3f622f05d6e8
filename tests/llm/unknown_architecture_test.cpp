// SPDX-License-Identifier: Apache-2.0
// What is said of models whose architecture is not known.
#include "octet/llm/unknown_architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/llm/changed_folder.h"

namespace octet {
namespace {

using test::Changed;
using test::float_tensor;
using ::testing::HasSubstr;
using ::testing::Not;

ArchitectureComparison comparison_of(Changed& folder) {
  folder.write();
  try {
    (void)describe_folder(folder.path());
  } catch (const UnsupportedModel& unsupported) {
    return unsupported.comparison();
  }
  throw std::runtime_error("accepted");
}

/// A Llama with a convolution in each layer and a field that sizes it.
class LlamaWithMore : public Changed {
 public:
  LlamaWithMore() : Changed("llama_tied") {
    fields["architectures"] = {"FooForCausalLM"};
    fields["model_type"] = "foo";
    fields["conv_kernel"] = 4;
    for (const char* layer : {"0", "1"}) {
      tensors["model.layers." + std::string(layer) + ".conv.weight"] =
          float_tensor({2, 3}, {1, 2, 3, 4, 5, 6});
    }
    tensors["model.conv_norm.weight"] = float_tensor({1}, {1});
  }
};

TEST(UnknownArchitecture, OfALlamaWithMoreTensorsIsNearestToLlamaAndSaysWhatIsMore) {
  LlamaWithMore folder;
  const ArchitectureComparison found = comparison_of(folder);
  EXPECT_EQ(found.asked, "FooForCausalLM");
  EXPECT_EQ(found.nearest, "LlamaForCausalLM");
  EXPECT_EQ(found.missing_tensors.count, 0);
  EXPECT_EQ(found.other_shapes.count, 0);
  EXPECT_EQ(found.field_faults.count, 0);
  const std::string message = found.message();
  EXPECT_THAT(message, HasSubstr("architectures: 'FooForCausalLM' is not supported; the nearest known one is "
                                 "LlamaForCausalLM (known: DeepseekV2ForCausalLM, "));
  EXPECT_THAT(message, HasSubstr("\nfields of the configuration that LlamaForCausalLM does not read:\n"
                                 "  'conv_kernel'\n"));
  EXPECT_THAT(message, HasSubstr("\ntensors that LlamaForCausalLM does not read:\n"
                                 "  'model.conv_norm.weight' [1]\n"
                                 "  'model.layers.*.conv.weight' (2 of them) [2, 3]"));
  EXPECT_THAT(message, Not(HasSubstr("lacks")));
}

TEST(UnknownArchitecture, SaysWhatTheFolderLacksAndWhatHasAnotherShape) {
  LlamaWithMore folder;
  folder.fields["intermediate_size"] = 136;
  folder.tensors.erase("model.norm.weight");
  folder.tensors.erase("model.layers.1.self_attn.q_proj.weight");
  const ArchitectureComparison found = comparison_of(folder);
  EXPECT_EQ(found.nearest, "LlamaForCausalLM");
  EXPECT_EQ(found.missing_tensors.count, 2);
  EXPECT_EQ(found.other_shapes.count, 3);
  const std::string message = found.message();
  EXPECT_THAT(message,
              HasSubstr("needs and the folder lacks:\n  'model.layers.*.self_attn.q_proj.weight' ["));
  EXPECT_THAT(message, HasSubstr("'model.norm.weight' ["));
  EXPECT_THAT(message, HasSubstr("\ntensors of another shape than in LlamaForCausalLM:\n"
                                 "  'model.layers.*.mlp.down_proj.weight' (2 of them): expected ["));
}

TEST(UnknownArchitecture, IsFoundByItsTensorsWhateverItsName) {
  struct Case {
    const char* golden;
    const char* nearest;
  };
  for (const Case& what :
       {Case{"qwen2_moe", "Qwen2MoeForCausalLM"}, Case{"qwen3_moe", "Qwen3MoeForCausalLM"},
        Case{"qwen3_moe_transposed", "Qwen3MoeForCausalLM"}, Case{"mixtral", "MixtralForCausalLM"},
        Case{"qwen3", "Qwen3ForCausalLM"}, Case{"qwen2_tied", "Qwen2ForCausalLM"},
        Case{"opt_post_norm", "OPTForCausalLM"}, Case{"deepseek_v2_lite", "DeepseekV2ForCausalLM"}}) {
    Changed folder(what.golden);
    folder.fields["architectures"] = {"LlamaBarForCausalLM"};
    folder.fields["model_type"] = nullptr;
    const ArchitectureComparison found = comparison_of(folder);
    EXPECT_EQ(found.nearest, what.nearest);
    EXPECT_EQ(found.unread_tensors.count, 0) << found.message();
    EXPECT_EQ(found.missing_tensors.count, 0) << found.message();
    EXPECT_EQ(found.other_shapes.count, 0) << found.message();
  }
}

TEST(UnknownArchitecture, WithNothingElseUnknownSaysThatTheNameIsAll) {
  Changed folder("llama_tied");
  folder.fields["architectures"] = {"LlamaForCausalML"};
  EXPECT_THAT(comparison_of(folder).message(),
              HasSubstr("its fields and tensors are those of LlamaForCausalLM: if it computes the same"));
}

TEST(UnknownArchitecture, NamesTheFieldsThatTheNearestNeedsAndComparesNamesAllTheSame) {
  Changed folder("glm4_moe_lite");
  folder.fields["architectures"] = {"GlmTinyForCausalLM"};
  folder.fields["kv_lora_rank"] = nullptr;
  folder.fields["num_hidden_layers"] = "two";
  const ArchitectureComparison found = comparison_of(folder);
  EXPECT_EQ(found.nearest, "Glm4MoeLiteForCausalLM");
  EXPECT_EQ(found.field_faults.count, 2);
  EXPECT_THAT(found.message(),
              HasSubstr("kv_lora_rank: expected an integer from 1 to 4194304, but the field is "
                        "missing"));
  EXPECT_THAT(found.message(), HasSubstr("num_hidden_layers: expected an integer"));
  EXPECT_EQ(found.unread_tensors.count, 0) << found.message();
  EXPECT_EQ(found.missing_tensors.count, 0) << found.message();
}

TEST(UnknownArchitecture, IsComparedByItsConfigAloneWhereThereAreNoWeights) {
  Changed folder("qwen2_moe");
  folder.fields["architectures"] = {"BarForCausalLM"};
  folder.write();
  std::filesystem::remove(folder.path() / "model.safetensors");
  try {
    (void)describe_folder(folder.path());
    FAIL() << "accepted";
  } catch (const UnsupportedModel& unsupported) {
    EXPECT_EQ(unsupported.comparison().nearest, "Qwen2MoeForCausalLM");
    EXPECT_THAT(unsupported.what(), HasSubstr("\nits tensors could not be compared: "));
    const Json json = unsupported.comparison().to_json();
    EXPECT_EQ(json["tensors"]["compared"], false);
    EXPECT_THAT(json["tensors"]["why_not"].get<std::string>(), HasSubstr("safetensors"));
  }
}

TEST(UnknownArchitecture, IsFoundByItsNameWhereThereIsNothingElse) {
  const Json config = {{"model_type", "qwen3_next"}};
  const ArchitectureComparison found =
      compare_architectures(config, "config.json", "qwen3_next", nullptr, "none");
  EXPECT_EQ(found.nearest, "Qwen3MoeForCausalLM");
  EXPECT_GT(found.field_faults.count, 3);
}

TEST(UnknownArchitecture, OfAHostileConfigIsRefusedInFewWords) {
  Changed folder("llama_tied");
  folder.fields["architectures"] = {std::string(100000, 'x') + "\x1b[2J"};
  for (int i = 0; i < 5000; ++i) folder.fields["field_" + std::string(200, 'y') + std::to_string(i)] = i;
  for (int i = 0; i < 300; ++i)
    folder.tensors["odd" + std::to_string(i) + "x.weight"] = float_tensor({1}, {1});
  const ArchitectureComparison found = comparison_of(folder);
  EXPECT_EQ(found.nearest, "LlamaForCausalLM");
  EXPECT_EQ(found.unread_fields.count, 5000);
  EXPECT_EQ(found.unread_tensors.count, 300);
  const std::string message = found.message();
  EXPECT_LT(message.size(), 6000U);
  EXPECT_THAT(message, HasSubstr("  and 4990 more"));
  EXPECT_THAT(message, HasSubstr("  and 290 more"));
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

TEST(UnknownArchitecture, IsAnObjectOfCountsAndEntriesInJson) {
  LlamaWithMore folder;
  const Json json = comparison_of(folder).to_json();
  EXPECT_EQ(json["architecture"], "FooForCausalLM");
  EXPECT_EQ(json["supported"], false);
  EXPECT_EQ(json["nearest"], "LlamaForCausalLM");
  EXPECT_EQ(json["config"]["unread"]["count"], 1);
  EXPECT_EQ(json["tensors"]["compared"], true);
  EXPECT_EQ(json["tensors"]["missing"]["count"], 0);
  EXPECT_EQ(json["tensors"]["unread"]["count"], 2);
  EXPECT_EQ(json["tensors"]["unread"]["shown"][1],
            (Json{{"tensors", "model.layers.*.conv.weight"}, {"count", 2}, {"shape", "[2, 3]"}}));
}

}  // namespace
}  // namespace octet
