// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quant_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/reference/reference_backend.h"
#include "octet/base/error.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string refusal_of_options(const QuantOptions& options) {
  return test::refusal<ConfigError>([&] { QuantSpec refused(options); });
}

TEST(QuantSpec, ByDefaultEveryLinearLayerButTheHeadIsE4M3WithAScalePerRow) {
  const QuantSpec spec{QuantOptions{}};
  const StorageRule linear = spec.rule("model.layers.0.mlp.up_proj", WeightRole::kLinear);
  EXPECT_TRUE(linear.quantize);
  EXPECT_EQ(linear.format, DType::kF8E4M3);
  EXPECT_EQ(linear.granularity, Granularity::kChannel);
  EXPECT_EQ(linear.numerics, NumericsProfile::kVllm);
  EXPECT_FALSE(linear.raw_cast);
  EXPECT_FALSE(spec.rule("lm_head", WeightRole::kLmHead).quantize);
  EXPECT_FALSE(spec.rule("model.embed_tokens", WeightRole::kEmbedding).quantize);
}

TEST(QuantSpec, RoutersAndTheLikeAreNeverQuantized) {
  const QuantSpec spec({.fp8_lm_head = true, .fp8_embedding = true, .ignore = {}});
  EXPECT_FALSE(spec.rule("model.layers.0.mlp.gate", WeightRole::kExcluded).quantize);
}

TEST(QuantSpec, HeadAndEmbeddingTakeTheGranularityOfTheLayers) {
  const QuantSpec spec(
      {.quantization = Granularity::kBlock, .fp8_lm_head = true, .fp8_embedding = true, .ignore = {}});
  EXPECT_EQ(spec.rule("lm_head", WeightRole::kLmHead).granularity, Granularity::kBlock);
  EXPECT_EQ(spec.rule("model.embed_tokens", WeightRole::kEmbedding).granularity, Granularity::kBlock);
}

TEST(QuantSpec, HeadAndEmbeddingTakeRowsWhereTheLayersAreLeftAlone) {
  const QuantSpec spec(
      {.quantization = std::nullopt, .fp8_lm_head = true, .fp8_embedding = true, .ignore = {}});
  EXPECT_FALSE(spec.rule("model.layers.0.mlp.up_proj", WeightRole::kLinear).quantize);
  EXPECT_TRUE(spec.rule("lm_head", WeightRole::kLmHead).quantize);
  EXPECT_EQ(spec.rule("lm_head", WeightRole::kLmHead).granularity, Granularity::kChannel);
  EXPECT_TRUE(spec.rule("model.embed_tokens", WeightRole::kEmbedding).quantize);
}

TEST(QuantSpec, FormatRawCastAndProfileGoIntoTheRule) {
  const QuantSpec spec({.fp8_format = DType::kF8E5M2,
                        .raw_cast = true,
                        .ignore = {},
                        .numerics = NumericsProfile::kCompressedTensors});
  const StorageRule rule = spec.rule("a", WeightRole::kLinear);
  EXPECT_EQ(rule.format, DType::kF8E5M2);
  EXPECT_TRUE(rule.raw_cast);
  EXPECT_EQ(rule.numerics, NumericsProfile::kCompressedTensors);
}

TEST(QuantSpec, IgnoredModulesStayAsTheyAre) {
  const QuantSpec spec({.fp8_lm_head = true, .ignore = {"*.q_proj", "lm_head"}});
  EXPECT_FALSE(spec.rule("model.layers.0.self_attn.q_proj", WeightRole::kLinear).quantize);
  EXPECT_TRUE(spec.rule("model.layers.0.self_attn.o_proj", WeightRole::kLinear).quantize);
  EXPECT_FALSE(spec.rule("lm_head", WeightRole::kLmHead).quantize);
}

TEST(QuantSpec, MembersOfAMergedMatrixShareTheirRule) {
  const QuantSpec spec({.ignore = {"layers.0.*"}});
  const std::vector<std::string> ignored = {"layers.0.q_proj", "layers.0.k_proj"};
  const std::vector<std::string> kept = {"layers.1.q_proj", "layers.1.k_proj"};
  EXPECT_FALSE(spec.merged_rule(ignored).quantize);
  EXPECT_TRUE(spec.merged_rule(kept).quantize);
}

TEST(QuantSpec, MembersOfAMergedMatrixThatDisagreeAreRefusedByName) {
  const QuantSpec spec({.ignore = {"*.k_proj"}});
  const std::vector<std::string> modules = {"layers.0.q_proj", "layers.0.k_proj"};
  try {
    (void)spec.merged_rule(modules);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("layers.0.q_proj (F8_E4M3, per-channel)"),
                                    HasSubstr("layers.0.k_proj (left as it is)")));
  }
}

TEST(QuantSpec, ATiedTableIsQuantizedWhenEitherUseAsksAndNeitherNameIsIgnored) {
  const auto quantized = [](QuantOptions options) {
    return QuantSpec(std::move(options)).tied_rule("model.embed_tokens", "lm_head").quantize;
  };
  EXPECT_FALSE(quantized({}));
  EXPECT_TRUE(quantized({.fp8_lm_head = true, .ignore = {}}));
  EXPECT_TRUE(quantized({.fp8_embedding = true, .ignore = {}}));
  EXPECT_FALSE(quantized({.fp8_embedding = true, .ignore = {"lm_head"}}));
  EXPECT_FALSE(quantized({.fp8_lm_head = true, .ignore = {"model.embed_tokens"}}));
}

TEST(QuantSpec, RefusesARawCastOfNothing) {
  EXPECT_THAT(refusal_of_options({.quantization = std::nullopt, .raw_cast = true, .ignore = {}}),
              HasSubstr("nothing is quantized; leave out --raw-cast or ask for --quantization fp8, "
                        "--fp8-lm-head or --fp8-embedding"));
  EXPECT_EQ(refusal_of_options(
                {.quantization = std::nullopt, .raw_cast = true, .fp8_embedding = true, .ignore = {}}),
            "accepted");
}

TEST(QuantSpec, RefusesARawCastWithBlockOrTensorScales) {
  EXPECT_THAT(refusal_of_options({.quantization = Granularity::kBlock, .raw_cast = true, .ignore = {}}),
              HasSubstr("a raw cast stores no scales, so it cannot be combined with per-block scales"));
  EXPECT_THAT(refusal_of_options({.quantization = Granularity::kTensor, .raw_cast = true, .ignore = {}}),
              HasSubstr("cannot be combined with per-tensor scales"));
  EXPECT_EQ(
      refusal_of_options({.quantization = std::nullopt, .raw_cast = true, .fp8_lm_head = true, .ignore = {}}),
      "accepted");
}

TEST(QuantSpec, RefusesStaticActivationsWithARawCast) {
  EXPECT_THAT(
      refusal_of_options({.raw_cast = true, .ignore = {}, .activation_scheme = ActivationScheme::kStatic}),
      HasSubstr("static activations take theirs from a checkpoint with scales"));
  EXPECT_EQ(
      refusal_of_options({.raw_cast = true, .ignore = {}, .activation_scheme = ActivationScheme::kDynamic}),
      "accepted");
}

TEST(QuantSpec, RefusesAFormatThatIsNotFp8) {
  EXPECT_THAT(refusal_of_options({.fp8_format = DType::kI8, .ignore = {}}),
              HasSubstr("must be F8_E4M3 or F8_E5M2, not I8"));
}

TEST(QuantSpec, ReportsAllContradictionsTogether) {
  const std::string message = refusal_of_options({.quantization = Granularity::kBlock,
                                                  .fp8_format = DType::kF4,
                                                  .raw_cast = true,
                                                  .ignore = {"re:[", "good", "re:(("},
                                                  .activation_scheme = ActivationScheme::kStatic});
  EXPECT_THAT(message, AllOf(HasSubstr("F4"), HasSubstr("per-block"), HasSubstr("static"), HasSubstr("re:["),
                             HasSubstr("re:(("), Not(HasSubstr("good"))));
}

TEST(QuantSpec, AutoActivationsAreFp8OnlyWhereTheDeviceMultipliesFp8) {
  MemoryLedger ledger;
  const ReferenceBackend backend(ledger);
  EXPECT_EQ(QuantSpec{QuantOptions{}}.activation_scheme(backend), ActivationScheme::kNone);
  const QuantSpec dynamic({.ignore = {}, .activation_scheme = ActivationScheme::kDynamic});
  EXPECT_EQ(dynamic.activation_scheme(backend), ActivationScheme::kDynamic);
}

TEST(QuantSpec, TellsWhichPatternsMatchedNothing) {
  const QuantSpec spec({.ignore = {"*.q_proj", "typo.*", "re:model\\..*"}});
  const std::vector<std::string> modules = {"model.layers.0.q_proj"};
  EXPECT_THAT(spec.unmatched_patterns(modules), ElementsAre("typo.*"));
}

QuantOptions choosing(ModuleChoice choose) {
  QuantOptions options;
  options.choose = std::move(choose);
  return options;
}

TEST(QuantSpec, AProgramChoosesModuleByModuleAndTheOptionsDecideTheRest) {
  QuantOptions options = choosing([](std::string_view module, WeightRole role) -> std::optional<StorageRule> {
    EXPECT_NE(role, WeightRole::kExcluded);
    if (module == "a") return StorageRule{};
    if (module == "b")
      return StorageRule{.quantize = true, .format = DType::kF8E5M2, .granularity = Granularity::kBlock};
    if (role == WeightRole::kLmHead) return StorageRule{.quantize = true, .raw_cast = true};
    return std::nullopt;
  });
  options.ignore = {"b", "d"};
  const QuantSpec spec(options);
  EXPECT_FALSE(spec.rule("a", WeightRole::kLinear).quantize);
  EXPECT_EQ(spec.rule("b", WeightRole::kLinear).granularity, Granularity::kBlock);  // goes before ignore
  EXPECT_EQ(spec.rule("b", WeightRole::kLinear).format, DType::kF8E5M2);
  EXPECT_EQ(spec.rule("c", WeightRole::kLinear), QuantSpec(QuantOptions{}).rule("c", WeightRole::kLinear));
  EXPECT_FALSE(spec.rule("d", WeightRole::kLinear).quantize);
  EXPECT_TRUE(spec.rule("lm_head", WeightRole::kLmHead).raw_cast);
  EXPECT_FALSE(spec.rule("b", WeightRole::kExcluded).quantize);
}

TEST(QuantSpec, MembersOfAMergedMatrixMustBeChosenAlike) {
  const QuantSpec spec(choosing([](std::string_view module, WeightRole) -> std::optional<StorageRule> {
    if (module.starts_with("k")) return StorageRule{.quantize = true, .granularity = Granularity::kBlock};
    return std::nullopt;
  }));
  EXPECT_EQ(spec.merged_rule(std::vector<std::string>{"k1", "k2"}).granularity, Granularity::kBlock);
  try {
    (void)spec.merged_rule(std::vector<std::string>{"q", "k1"});
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("q (F8_E4M3, per-channel)"), HasSubstr("k1 (F8_E4M3, per-block)"),
                      HasSubstr("choose one rule for them all")));
  }
}

TEST(QuantSpec, ATiedTableTakesTheChoiceForEitherNameAndRefusesTwoDifferentOnes) {
  const StorageRule raw{.quantize = true, .raw_cast = true};
  const QuantSpec head(choosing([&](std::string_view, WeightRole role) {
    return role == WeightRole::kLmHead ? std::optional(raw) : std::nullopt;
  }));
  EXPECT_EQ(head.tied_rule("embed", "lm_head"), raw);
  const QuantSpec both(choosing([&](std::string_view, WeightRole role) {
    return std::optional(role == WeightRole::kLmHead ? raw : StorageRule{});
  }));
  try {
    (void)both.tied_rule("embed", "lm_head");
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("embed (left as it is)"), HasSubstr("lm_head (F8_E4M3, raw cast)")));
  }
}

TEST(QuantSpec, RefusesAChosenRuleThatContradictsItself) {
  const auto message = [](const StorageRule& rule) -> std::string {
    const QuantSpec spec(choosing([&](std::string_view, WeightRole) { return std::optional(rule); }));
    return test::refusal<ConfigError>(
        [&] { (void)spec.rule("model.layers.3.mlp.up_proj", WeightRole::kLinear); });
  };
  EXPECT_THAT(message({.quantize = true, .format = DType::kBF16}),
              AllOf(HasSubstr("model.layers.3.mlp.up_proj"), HasSubstr("not BF16")));
  EXPECT_THAT(message({.quantize = true, .raw_cast = true, .granularity = Granularity::kBlock}),
              AllOf(HasSubstr("model.layers.3.mlp.up_proj"), HasSubstr("per-block")));
}

}  // namespace
}  // namespace octet
