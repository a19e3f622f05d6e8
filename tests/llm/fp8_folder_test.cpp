// SPDX-License-Identifier: Apache-2.0
// Checkpoints that are in FP8 already, from the folder to the logits; and the scales of static activations in
// them.
#include "tests/llm/fp8_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/llm/golden_folder.h"
#include "tests/support/refusal.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using namespace octet::test;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::filesystem::path kGolden = source_dir() / "tests/golden/models/qwen3";
const std::filesystem::path kDemo = source_dir() / "models/demo";

ModelOptions options_of(const QuantOptions& quant) {
  return {.quant = quant,
          .dtype = {},
          .device = {},
          .load_format = LoadFormat::kAuto,
          .allow_nonfinite = false,
          .progress = {},
          .warn = [](const std::string& text) { ADD_FAILURE() << "an unexpected warning: " << text; }};
}

QuantOptions quantized(Granularity granularity) {
  QuantOptions quant;
  quant.quantization = granularity;
  return quant;
}

QuantOptions untouched(ActivationScheme scheme = ActivationScheme::kNone) {
  QuantOptions quant;
  quant.quantization.reset();
  quant.activation_scheme = scheme;
  return quant;
}

Json fp8_config() {
  return {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"fmt", "e4m3"}};
}

Json compressed_config(const char* strategy) {
  const Json weights = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", strategy}, {"symmetric", true}, {"dynamic", false}};
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}},
          {"ignore", {"lm_head"}}};
}

struct Dialect {
  const char* name;
  std::filesystem::path from;
  Granularity granularity;
  ScaleDialect scales;
  Json config;
};

std::vector<Dialect> dialects() {
  Json block = fp8_config();
  block["weight_block_size"] = {128, 128};
  return {{"fp8, a scalar", kGolden, Granularity::kTensor, ScaleDialect::kScalar, fp8_config()},
          {"compressed-tensors, a scalar", kGolden, Granularity::kTensor, ScaleDialect::kScalar,
           compressed_config("tensor")},
          {"compressed-tensors, a column", kGolden, Granularity::kChannel, ScaleDialect::kColumn,
           compressed_config("channel")},
          {"fp8, blocks", kDemo, Granularity::kBlock, ScaleDialect::kBlockInverse, block}};
}

TEST(Fp8Folder, HasTheLogitsOfTheSameWeightsQuantizedWhileLoading) {
  for (const Dialect& dialect : dialects()) {
    SCOPED_TRACE(dialect.name);
    Model original(dialect.from, options_of(quantized(dialect.granularity)));
    original.load();
    const auto expected = folder_logits(original);
    TempFolder folder;
    write_folder(folder.path(), dialect.from, dialect.config, tensors_of(original, dialect.scales));

    for (const QuantOptions& quant : {untouched(), quantized(Granularity::kChannel)}) {
      Model model(folder.path(), options_of(quant));
      model.load();
      EXPECT_EQ(folder_logits(model), expected);
      EXPECT_EQ(model.load_report().final_bytes, model.plan().final_bytes);
      EXPECT_TRUE(model.load_report().unused.empty());
    }
    Model plain(dialect.from, options_of(untouched()));
    plain.load();
    EXPECT_NE(folder_logits(plain), expected);
  }
}

/// qwen3 in FP8 with a scale for the input of each linear layer.
class StaticActivations : public ::testing::Test {
 protected:
  StaticActivations() {
    Model original(kGolden, options_of(quantized(Granularity::kTensor)));
    original.load();
    tensors_ = tensors_of(original, ScaleDialect::kScalar);
    for (const Parameter& parameter : original.decoder().parameters()) {
      auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination);
      if (matrix == nullptr || !is_fp8((*matrix)->matrix.spec().dtype)) continue;
      modules_.push_back(parameter.name.substr(0, parameter.name.rfind(".weight")));
    }
    set_all(0.03125F);
  }

  void set(const std::string& module, float scale, const std::string& suffix = ".input_scale",
           std::vector<int64_t> shape = {}) {
    tensors_[module + suffix] = float_tensor(std::move(shape), {scale});
  }
  void set_all(float scale) {
    for (const std::string& module : modules_) set(module, scale);
  }
  std::vector<float> logits(ActivationScheme scheme) {
    TempFolder folder;
    Json config = fp8_config();
    config["activation_scheme"] = "static";
    write_folder(folder.path(), kGolden, config, tensors_);
    Model model(folder.path(), options_of(untouched(scheme)));
    model.load();
    EXPECT_EQ(model.load_report().final_bytes, model.plan().final_bytes);
    return folder_logits(model);
  }
  std::vector<float> static_logits() { return logits(ActivationScheme::kStatic); }
  template <class E>
  std::string refusal() {
    return test::refusal<E>([&] { static_logits(); });
  }

  FileTensors tensors_;
  std::vector<std::string> modules_;
};

TEST_F(StaticActivations, AreRoundedByTheScaleInTheFile) {
  const auto fixed = static_logits();
  EXPECT_NE(fixed, logits(ActivationScheme::kDynamic));
  EXPECT_NE(fixed, logits(ActivationScheme::kNone));
  EXPECT_EQ(logits(ActivationScheme::kAuto), logits(ActivationScheme::kNone));  // no native FP8 on a CPU
  EXPECT_LT(relative_difference(fixed, logits(ActivationScheme::kNone)), 0.2);
  // E4M3 is a floating-point format: twice the scale is the same rounding, but where values are subnormal; a
  // scale far too small clamps everything.
  set_all(1e-6F);
  EXPECT_GT(relative_difference(static_logits(), logits(ActivationScheme::kNone)), 0.2);
}

TEST_F(StaticActivations, OfAMergedMatrixTakeTheLargestScaleOfItsMembers) {
  const std::string layer = "model.layers.0.self_attn.";
  for (const char* member : {"q_proj", "k_proj", "v_proj"}) set(layer + member, 0.0371F);
  const auto all_alike = static_logits();
  set(layer + "q_proj", 0.011F);
  set(layer + "v_proj", 0.0002F);
  EXPECT_EQ(static_logits(), all_alike);
  set(layer + "k_proj", 0.011F);
  EXPECT_NE(static_logits(), all_alike);
}

TEST_F(StaticActivations, MayBeVectorsOfOneAndGoByEitherName) {
  const auto expected = static_logits();
  for (const std::string& module : modules_) {
    tensors_.erase(module + ".input_scale");
    set(module, 0.03125F, ".activation_scale", {1});
  }
  EXPECT_EQ(static_logits(), expected);
  EXPECT_EQ(logits(ActivationScheme::kAuto), logits(ActivationScheme::kNone));
}

/// The two places where modelopt describes what it made, with the fields it writes.
struct ModeloptFolder {
  const char* name;
  Json in_config;
  Json in_own_file;
};

std::vector<ModeloptFolder> modelopt_folders() {
  const Json own = {
      {"producer", {{"name", "modelopt"}, {"version", "0.33.0"}}},
      {"quantization",
       {{"quant_algo", "FP8"}, {"kv_cache_quant_algo", nullptr}, {"exclude_modules", {"lm_head"}}}}};
  const Json entry = {{"quant_method", "modelopt"},
                      {"quant_algo", "FP8"},
                      {"producer", {{"name", "modelopt"}, {"version", "0.33.0"}}},
                      {"ignore", {"lm_head"}}};
  return {{"hf_quant_config.json alone", nullptr, own},
          {"config.json alone", entry, nullptr},
          {"both", entry, own}};
}

TEST_F(StaticActivations, OfAModeloptFolderAreThoseOfTheSameWeightsInAnotherDialect) {
  const auto expected = static_logits();
  const auto expected_without = logits(ActivationScheme::kNone);
  for (const ModeloptFolder& dialect : modelopt_folders()) {
    SCOPED_TRACE(dialect.name);
    const TempFolder folder;
    write_folder(folder.path(), kGolden, dialect.in_config, tensors_);
    if (!dialect.in_own_file.is_null()) folder.write("hf_quant_config.json", dialect.in_own_file.dump());
    const auto source = read_source_quantization(folder.path());
    ASSERT_TRUE(source.has_value());
    EXPECT_EQ(source->method, "modelopt");
    EXPECT_TRUE(source->static_activations);
    for (const auto& [scheme, wanted] : {std::pair(ActivationScheme::kStatic, expected),
                                         std::pair(ActivationScheme::kAuto, expected_without)}) {
      Model model(folder.path(), options_of(untouched(scheme)));
      model.load();
      EXPECT_EQ(folder_logits(model), wanted);
      EXPECT_TRUE(model.load_report().unused.empty());
    }
    // The excluded head stays as it is also where the options quantize what is not in FP8.
    Model model(folder.path(), options_of(quantized(Granularity::kChannel)));
    model.load();
    EXPECT_EQ(folder_logits(model), expected_without);
  }
}

TEST_F(StaticActivations, OfAModeloptFolderInFourBitsAreRefusedByName) {
  const TempFolder folder;
  write_folder(folder.path(), kGolden, nullptr, tensors_);
  folder.write("hf_quant_config.json", R"({"quantization": {"quant_algo": "NVFP4"}})");
  EXPECT_THAT(
      [&] { Model(folder.path(), options_of(untouched())); },
      ::testing::ThrowsMessage<ConfigError>(AllOf(HasSubstr("hf_quant_config.json"), HasSubstr("'nvfp4'"))));
}

TEST_F(StaticActivations, AreRefusedBeforeLoadingWhereAnFp8MatrixHasNoScale) {
  tensors_.erase("model.layers.0.mlp.up_proj.input_scale");
  tensors_.erase("model.layers.1.self_attn.o_proj.input_scale");
  EXPECT_THAT(refusal<ConfigError>(), AllOf(HasSubstr("--activation-scheme static"),
                                            HasSubstr("'model.layers.0.mlp.up_proj.input_scale'"),
                                            HasSubstr("'model.layers.1.self_attn.o_proj.input_scale'"),
                                            HasSubstr("take dynamic or none"), Not(HasSubstr("q_proj"))));
}

TEST_F(StaticActivations, AreRefusedWhereTheFileHasNoScaleAtAll) {
  for (const std::string& module : modules_) tensors_.erase(module + ".input_scale");
  EXPECT_THAT(refusal<ConfigError>(),
              HasSubstr("--activation-scheme static: needs a checkpoint with input scales"));
}

TEST_F(StaticActivations, AreRefusedWithAScaleThatIsNone) {
  for (const float scale : {0.0F, -1.0F, NAN, INFINITY}) {
    set("model.layers.0.mlp.up_proj", scale);
    EXPECT_THAT(refusal<FormatError>(), AllOf(HasSubstr("'model.layers.0.mlp.up_proj.input_scale'"),
                                              HasSubstr("expected a scale above 0")));
  }
}

TEST_F(StaticActivations, LeaveMatricesAloneThatAreNotInFp8) {
  Model plain(kGolden, options_of(untouched()));
  const std::string name = "model.layers.0.mlp.down_proj";
  for (const SourceTensor& tensor : plain.source().tensors()) {
    if (tensor.name != name + ".weight") continue;
    FileTensor& weight = tensors_[tensor.name];
    weight.dtype = tensor.dtype;
    weight.bytes.resize(static_cast<size_t>(tensor.bytes()));
    plain.source().read_rows(tensor, 0, tensor.rows(), weight.bytes);
  }
  tensors_.erase(name + ".weight_scale");
  const auto with_scale = static_logits();
  tensors_.erase(name + ".input_scale");
  EXPECT_EQ(static_logits(), with_scale);
}

}  // namespace
}  // namespace octet
