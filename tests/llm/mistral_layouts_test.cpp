// SPDX-License-Identifier: Apache-2.0
// One model in all the layouts that Mistral's models come in: the logits are the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "octet/base/error.h"
#include "octet/checkpoint/safetensors_writer.h"
#include "octet/engine/engine.h"
#include "octet/llm/quantize.h"
#include "octet/models/registry.h"
#include "tests/llm/fp8_folder.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/temp_folder.h"

namespace octet {
namespace {

using test::golden_models;
using test::GoldenFolder;
using test::relative_difference;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct NamedTensor {
  TensorDeclaration declaration;
  std::vector<std::byte> bytes;
};

std::vector<NamedTensor> tensors_of(const std::string& golden) {
  std::vector<NamedTensor> result;
  const Checkpoint checkpoint(golden_models(golden));
  for (const TensorInfo& info : checkpoint.tensors()) {
    NamedTensor tensor{.declaration = {.name = info.name, .dtype = info.dtype, .shape = info.shape},
                       .bytes = {}};
    tensor.bytes.resize(static_cast<size_t>(info.bytes));
    checkpoint.read_bytes(info, 0, tensor.bytes);
    result.push_back(std::move(tensor));
  }
  return result;
}

void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<TensorDeclaration> declarations;
  for (const NamedTensor& tensor : tensors) declarations.push_back(tensor.declaration);
  SafetensorsWriter writer(path, declarations);
  for (const NamedTensor& tensor : tensors) writer.append(tensor.bytes);
  writer.finish();
}

void rename(std::string& name, const std::string& from, const std::string& to) {
  if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
}

/// Rows (i, i + d/2) of each head become neighbours.
void interleave(NamedTensor& tensor, int64_t head_dim) {
  const int64_t rows = tensor.declaration.shape[0];
  const auto row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
  const std::vector<std::byte> old = tensor.bytes;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim * head_dim;
    const int64_t i = row % head_dim;
    const int64_t from = head + i / 2 + (i % 2) * head_dim / 2;
    std::memcpy(tensor.bytes.data() + static_cast<size_t>(row) * row_bytes,
                old.data() + static_cast<size_t>(from) * row_bytes, row_bytes);
  }
}

std::vector<NamedTensor> native(std::vector<NamedTensor> tensors, int64_t head_dim) {
  for (NamedTensor& tensor : tensors) {
    std::string& name = tensor.declaration.name;
    if (name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos)
      interleave(tensor, head_dim);
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"model.", ""},
                                                          {"self_attn.q_proj", "attention.wq"},
                                                          {"self_attn.k_proj", "attention.wk"},
                                                          {"self_attn.v_proj", "attention.wv"},
                                                          {"self_attn.o_proj", "attention.wo"},
                                                          {"mlp.gate_proj", "feed_forward.w1"},
                                                          {"mlp.down_proj", "feed_forward.w2"},
                                                          {"mlp.up_proj", "feed_forward.w3"},
                                                          {"block_sparse_moe", "feed_forward"},
                                                          {"input_layernorm", "attention_norm"},
                                                          {"post_attention_layernorm", "ffn_norm"},
                                                          {"embed_tokens", "tok_embeddings"},
                                                          {"lm_head", "output"}}) {
      rename(name, from, to);
    }
  }
  return tensors;
}

NamedTensor image_tensor(const std::string& name) {
  return {.declaration = {.name = name, .dtype = DType::kBF16, .shape = {3}},
          .bytes = std::vector<std::byte>(6)};
}

Json config_of(const std::string& golden) {
  return parse_json(read_text_file(golden_models(golden) / "config.json"), "config.json");
}

Json params_of(const std::string& golden) {
  const Json config = config_of(golden);
  const int64_t head_dim = config.value(
      "head_dim", config["hidden_size"].get<int64_t>() / config["num_attention_heads"].get<int64_t>());
  Json params = {{"dim", config["hidden_size"]},
                 {"n_layers", config["num_hidden_layers"]},
                 {"head_dim", head_dim},
                 {"hidden_dim", config["intermediate_size"]},
                 {"n_heads", config["num_attention_heads"]},
                 {"n_kv_heads", config["num_key_value_heads"]},
                 {"norm_eps", config["rms_norm_eps"]},
                 {"vocab_size", config["vocab_size"]},
                 {"sliding_window", config["sliding_window"]}};
  if (config.contains("num_local_experts")) {
    params["moe"] = {{"num_experts", config["num_local_experts"]},
                     {"num_experts_per_tok", config["num_experts_per_tok"]}};
  }
  const Json rope = config.value("rope_parameters", Json::object());
  params["rope_theta"] = rope.contains("rope_theta") ? rope["rope_theta"] : config["rope_theta"];
  if (rope.contains("factor")) {
    const Json original = rope["original_max_position_embeddings"];
    params["yarn"] = {{"factor", rope["factor"]},
                      {"original_max_position_embeddings", original},
                      {"beta", 32.0},
                      {"alpha", 1.0},
                      {"apply_scale", false}};
    params["llama_4_scaling"] = {{"beta", rope["llama_4_scaling_beta"]},
                                 {"original_max_position_embeddings", original}};
  }
  return params;
}

ModelOptions options(std::vector<std::string>* warnings = nullptr, bool quantize = false) {
  ModelOptions result;
  result.dtype = DType::kF32;
  if (!quantize) result.quant.quantization.reset();
  if (warnings != nullptr) result.warn = [warnings](const std::string& text) { warnings->push_back(text); };
  return result;
}

void expect_golden(Model& model, const std::string& golden_name, const std::string& variant = "") {
  const GoldenFolder golden(golden_name);
  model.load();
  Engine engine(model.decoder(), {.max_model_len = 96, .max_step_tokens = 33, .kv_cache_dtype = DType::kF32});
  const auto sequences = golden.sequences();
  for (size_t i = 0; i < sequences.size(); ++i) {
    std::vector<float> logits;
    engine.prompt_logits(sequences[i], [&](int64_t, ConstTensorView rows) {
      for (int64_t row = 0; row < rows.rows(); ++row)
        logits.insert(logits.end(), rows.row<float>(row), rows.row<float>(row) + rows.cols());
    });
    EXPECT_LT(relative_difference(logits, golden.logits(variant, i)), 1e-4) << golden_name << " " << i;
  }
}

/// The golden model in Mistral's own layout, with a tensor of an image encoder.
std::vector<NamedTensor> write_native(const TempFolder& folder, const std::string& golden) {
  const Json params = params_of(golden);
  folder.write("params.json", params.dump());
  auto tensors = native(tensors_of(golden), params["head_dim"]);
  tensors.push_back(image_tensor("vision_encoder.ln_pre.weight"));
  write_tensors(folder.path() / "consolidated.safetensors", tensors);
  return tensors;
}

class MistralLayouts : public ::testing::TestWithParam<const char*> {};

TEST_P(MistralLayouts, MistralsOwnFilesGiveTheSameLogits) {
  const TempFolder folder;
  const auto tensors = write_native(folder, GetParam());
  Model model(folder.path(), options());
  EXPECT_EQ(model.spec().names.lm_head, "output");
  expect_golden(model, GetParam());
  EXPECT_TRUE(model.load_report().unused.empty());
  EXPECT_EQ(model.load_report().weights.size(), tensors.size());
}

TEST_P(MistralLayouts, TheTextModelInsideAnImageModelIsFoundUnderEachPrefix) {
  const std::vector<std::pair<std::string, std::string>> prefixes = {
      {"model.language_model.", "lm_head"},
      {"language_model.model.", "language_model.lm_head"},
      {"model.", "lm_head"}};
  for (const auto& [prefix, head] : prefixes) {
    const TempFolder folder;
    Json text = config_of(GetParam());
    text.erase("architectures");
    text.erase("torch_dtype");
    text.erase("dtype");
    folder.write("config.json", Json({{"architectures", {"Mistral3ForConditionalGeneration"}},
                                      {"model_type", "mistral3"},
                                      {"dtype", "bfloat16"},
                                      {"text_config", text},
                                      {"vision_config", {{"model_type", "pixtral"}}}})
                                    .dump());
    auto tensors = tensors_of(GetParam());
    for (NamedTensor& tensor : tensors) {
      rename(tensor.declaration.name, "model.", prefix);
      rename(tensor.declaration.name, "lm_head", head);
    }
    tensors.push_back(image_tensor("model.vision_tower.patch_conv.weight"));
    tensors.push_back(image_tensor("multi_modal_projector.norm.weight"));
    write_tensors(folder.path() / "model.safetensors", tensors);
    Model model(folder.path(), options());
    EXPECT_EQ(model.spec().names.embed_tokens, prefix + "embed_tokens");
    expect_golden(model, GetParam());
    const LoadReport& report = model.load_report();
    EXPECT_TRUE(report.unused.empty());
    EXPECT_EQ(std::ranges::count(report.weights, TensorUse::kSkipped, &WeightRecord::use), 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, MistralLayouts,
                         ::testing::Values("mistral_full", "mistral_window", "ministral3"));

TEST(MistralLayout, AMixtureInMistralsOwnFilesGivesTheSameLogitsUnderBothItsNames) {
  for (const char* module : {"feed_forward", "block_sparse_moe"}) {
    const TempFolder folder;
    auto tensors = write_native(folder, "mixtral");
    for (NamedTensor& tensor : tensors) rename(tensor.declaration.name, "feed_forward", module);
    write_tensors(folder.path() / "consolidated.safetensors", tensors);
    Model model(folder.path(), options());
    EXPECT_EQ(model.spec().architecture, "MixtralForCausalLM");
    expect_golden(model, "mixtral");
    EXPECT_TRUE(model.load_report().unused.empty());
    EXPECT_EQ(model.load_report().weights.size(), tensors.size());
  }
}

TEST(MistralLayout, AnFp8CheckpointOfMistralsOwnFilesIsInTheirLayoutToo) {
  for (const int64_t shard_bytes : {int64_t{1} << 40, int64_t{20000}}) {
    for (const ExportFormat format :
         {ExportFormat::kCompressedTensors, ExportFormat::kFp8Block, ExportFormat::kRaw}) {
      const TempFolder folder;
      (void)write_native(folder, "mixtral");
      folder.write("tekken.json", "{}");
      QuantizeOptions write;
      write.model = options(nullptr, true);
      write.format = format;
      write.max_shard_bytes = shard_bytes;
      if (format == ExportFormat::kFp8Block) write.model.quant.quantization = Granularity::kBlock;
      if (format == ExportFormat::kRaw) write.model.quant.raw_cast = true;
      const std::filesystem::path out = folder.path() / "out";
      (void)quantize_checkpoint(folder.path(), out, write);
      EXPECT_FALSE(std::filesystem::exists(out / "config.json"));
      EXPECT_TRUE(std::filesystem::exists(out / "tekken.json"));
      EXPECT_EQ(std::filesystem::exists(out / "consolidated.safetensors"), shard_bytes > 20000);
      write.overwrite = true;
      const size_t files = quantize_checkpoint(folder.path(), out, write).files.size();
      EXPECT_EQ(files == 3, shard_bytes > 20000) << "weights, params.json and tekken.json";
      Model direct(folder.path(), write.model);
      Model written(out, options());
      direct.load();
      written.load();
      EXPECT_EQ(test::folder_logits(written), test::folder_logits(direct));
    }
  }
}

TEST(MistralLayout, OfAFolderWithBothTheIndexedOneIsReadAndSaidSo) {
  const TempFolder folder;
  for (const char* name : {"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                           "model-00002-of-00002.safetensors"}) {
    std::filesystem::copy_file(golden_models("mistral_full") / name, folder.path() / name);
  }
  folder.write("params.json", "{}");
  folder.write("consolidated.safetensors", "not even a file of weights");
  std::vector<std::string> warnings;
  Model model(folder.path(), options(&warnings));
  EXPECT_THAT(warnings,
              ::testing::Contains(AllOf(HasSubstr("holds the weights twice"), HasSubstr("config.json"),
                                        HasSubstr("consolidated*.safetensors left alone"))));
  expect_golden(model, "mistral_full");
}

TEST(MistralLayout, ScalesOfMistralsOwnFp8FilesAreUsed) {
  const TempFolder folder;
  folder.write("params.json", params_of("mistral_full").dump());
  auto tensors = native(tensors_of("mistral_full"), 10);
  const auto wq = std::ranges::find(tensors, "layers.0.attention.wq.weight",
                                    [](const NamedTensor& tensor) { return tensor.declaration.name; });
  ASSERT_NE(wq, tensors.end());
  // wq, wk and wv are one matrix in memory: all three in FP8.
  for (NamedTensor& tensor : tensors) {
    const std::string& name = tensor.declaration.name;
    if (name.find("layers.0.attention.w") == std::string::npos || name.find("wo") != std::string::npos)
      continue;
    tensor.declaration.dtype = DType::kF8E4M3;
    tensor.bytes.assign(tensor.bytes.size() / 2, std::byte{0x38});  // 1.0
  }
  for (const char* part : {"wq", "wk", "wv"}) {
    const std::string module = std::string("layers.0.attention.") + part;
    const float scale = 0.25F;
    NamedTensor weight_scale{
        .declaration = {.name = module + ".qscale_weight", .dtype = DType::kF32, .shape = {}},
        .bytes = std::vector<std::byte>(4)};
    std::memcpy(weight_scale.bytes.data(), &scale, sizeof(scale));
    tensors.push_back(weight_scale);
    weight_scale.declaration.name = module + ".qscale_act";
    tensors.push_back(weight_scale);
  }
  write_tensors(folder.path() / "consolidated.safetensors", tensors);
  Model model(folder.path(), options());
  model.load();
  const LoadReport& report = model.load_report();
  EXPECT_TRUE(report.unused.empty());
  const auto row = std::ranges::find(report.weights, "layers.0.attention.wq.weight", &WeightRecord::name);
  ASSERT_NE(row, report.weights.end());
  EXPECT_EQ(row->stored_dtype, DType::kF8E4M3);
  for (const Parameter& parameter : model.decoder().parameters()) {
    if (parameter.name != "layers.0.attention.wq.weight") continue;
    EXPECT_EQ(std::get<StoredMatrix*>(parameter.destination)->matrix.view().scale(0, 0), 0.25F);
  }
}

void expect_refusal(const Json& params, const std::string& first, const std::string& second = "params.json") {
  const TempFolder folder;
  folder.write("params.json", params.dump());
  folder.write("consolidated.safetensors", "");
  EXPECT_THAT([&] { Model model(folder.path(), options()); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr(first), HasSubstr(second))));
}

TEST(MistralLayout, RefusesWrongParamsAllTogether) {
  Json params = params_of("mistral_full");
  params.erase("dim");
  params["n_kv_heads"] = 4;
  expect_refusal(params, "dim", "n_kv_heads: expected a divisor of n_heads 6, found 4");
  params = params_of("mistral_full");
  params["moe"] = {{"num_experts", 8}, {"num_shared_experts", 1}};
  expect_refusal(
      params, "moe: num_experts_per_tok: expected an integer",
      "moe: num_shared_experts: expected 0, as in Mixtral (other mixtures are read in the Hugging Face "
      "layout), found 1");
  params["moe"] = {{"num_experts", 65536}, {"num_experts_per_tok", 1}, {"routed_scale", 2.5}};
  params["n_layers"] = 4000;
  expect_refusal(params, "n_layers: expected at most 65536 experts in all layers",
                 "routed_scale: expected 1");
  params["moe"] = 8;
  expect_refusal(params, "moe: expected an object");
  params = params_of("mistral_full");
  params["sliding_window"] = {16, "no"};
  expect_refusal(params, "sliding_window: expected a number of tokens");
  params = params_of("mistral_full");
  params["activation"] = "gelu";
  expect_refusal(params, "activation: expected \"silu\"");
}

TEST(MistralLayout, AWindowMayBeAListThatRepeatsOverTheLayers) {
  Json params = params_of("mistral_full");
  params["n_layers"] = 5;
  params["sliding_window"] = {16, nullptr};
  const DecoderSpec spec = read_mistral_params(params, "params.json");
  EXPECT_THAT(spec.sliding_windows, ::testing::ElementsAre(16, 0, 16, 0, 16));
  EXPECT_EQ(spec.rope.style, RopeStyle::kInterleaved);
}

TEST(MistralLayout, AnImageModelWithoutItsTextModelIsRefused) {
  const TempFolder folder;
  folder.write("config.json", R"({"architectures": ["Mistral3ForConditionalGeneration"]})");
  EXPECT_THAT([&] { Model model(folder.path(), options()); },
              ThrowsMessage<ConfigError>(HasSubstr("text_config: expected the text model's configuration")));
}

}  // namespace
}  // namespace octet
