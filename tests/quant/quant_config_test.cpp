// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quant_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

QuantConfig read(std::string_view text) {
  return read_quant_config(parse_json(text, "test"), "config.json");
}

std::string refusal_of_config(std::string_view text) {
  return test::refusal<ConfigError>([&] { (void)read(text); });
}

TEST(QuantConfig, ReadsTheFp8DialectWithBlocks) {
  const QuantConfig config = read(R"({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                      "weight_block_size": [128, 64], "modules_to_not_convert": ["lm_head"]})");
  EXPECT_EQ(config.method, "fp8");
  EXPECT_EQ(config.block_rows, 128);
  EXPECT_EQ(config.block_cols, 64);
  EXPECT_FALSE(config.static_activations);
  EXPECT_THAT(config.ignore, ElementsAre("lm_head"));
}

TEST(QuantConfig, ReadsTheFp8DialectWithOneScaleAndStaticActivations) {
  const QuantConfig config = read(
      R"({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["a"], "weight_block_size": null})");
  EXPECT_FALSE(config.block_rows.has_value());
  EXPECT_TRUE(config.static_activations);
  EXPECT_THAT(config.ignore, ElementsAre("a"));
}

TEST(QuantConfig, ReadsCompressedTensors) {
  const QuantConfig config = read(R"({"quant_method": "compressed-tensors", "format": "float-quantized",
    "ignore": ["lm_head", "re:.*gate"], "config_groups": {"group_0": {"targets": ["Linear"],
      "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": false},
      "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": true}}}})");
  EXPECT_EQ(config.method, "compressed-tensors");
  EXPECT_FALSE(config.block_rows.has_value());
  EXPECT_FALSE(config.static_activations);
  EXPECT_THAT(config.ignore, ElementsAre("lm_head", "re:.*gate"));
}

TEST(QuantConfig, ReadsTheBlocksAndStaticActivationsOfCompressedTensors) {
  const QuantConfig config = read(R"({"quant_method": "compressed-tensors", "config_groups": {"FP8_BLOCK": {
      "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
      "input_activations": {"num_bits": 8, "type": "float", "dynamic": false}}}})");
  EXPECT_EQ(config.block_rows, 128);
  EXPECT_EQ(config.block_cols, 128);
  EXPECT_TRUE(config.static_activations);
}

TEST(QuantConfig, ReadsModeloptFlatAndNestedInEitherCase) {
  const QuantConfig flat =
      read(R"({"quant_method": "modelopt", "quant_algo": "fp8", "exclude_modules": ["lm_head"]})");
  EXPECT_TRUE(flat.static_activations);
  EXPECT_THAT(flat.ignore, ElementsAre("lm_head"));
  const QuantConfig nested = read(
      R"({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["a"]}})");
  EXPECT_EQ(nested.method, "modelopt");
  EXPECT_EQ(nested.kv_cache_scheme, "fp8");
  EXPECT_THAT(nested.ignore, ElementsAre("a"));
}

TEST(QuantConfig, RefusesAnotherMethodByName) {
  EXPECT_THAT(refusal_of_config(R"({"quant_method": "gptq", "bits": 4})"),
              AllOf(HasSubstr("config.json: quantization_config"), HasSubstr("found 'gptq'"),
                    HasSubstr("Octet reads FP8")));
  EXPECT_THAT(refusal_of_config("{}"), HasSubstr("quant_method"));
  EXPECT_THAT(refusal_of_config("3"), HasSubstr("config.json: quantization_config: expected an object"));
}

TEST(QuantConfig, RefusesIntegerAndFourBitFormats) {
  EXPECT_THAT(refusal_of_config(R"({"quant_method": "compressed-tensors", "format": "pack-quantized"})"),
              HasSubstr("expected \"float-quantized\", found 'pack-quantized'"));
  EXPECT_THAT(refusal_of_config(R"({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights":
                          {"num_bits": 4, "type": "int"}}}})"),
              AllOf(HasSubstr("expected 8 (FP8), found 4"), HasSubstr("expected \"float\", found 'int'"),
                    HasSubstr("'g'")));
  EXPECT_THAT(refusal_of_config(R"({"quant_method": "modelopt", "quant_algo": "NVFP4"})"),
              HasSubstr("found 'nvfp4'"));
}

TEST(QuantConfig, ReportsEveryWrongFieldTogether) {
  EXPECT_THAT(refusal_of_config(
                  R"({"quant_method": "fp8", "weight_block_size": [128], "activation_scheme": "sometimes",
                          "modules_to_not_convert": [1], "fmt": "e3m4"})"),
              AllOf(HasSubstr("weight_block_size"), HasSubstr("found 1"), HasSubstr("'sometimes'"),
                    HasSubstr("modules_to_not_convert"), HasSubstr("'e3m4'")));
  EXPECT_THAT(refusal_of_config(R"({"quant_method": "fp8", "weight_block_size": [0, 128]})"),
              HasSubstr("weight_block_size"));
}

}  // namespace
}  // namespace octet
