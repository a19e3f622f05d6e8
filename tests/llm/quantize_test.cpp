// SPDX-License-Identifier: Apache-2.0
// Exported checkpoints, loaded again: the same codes, scales and logits as quantizing on the fly.
#include "octet/llm/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "tests/llm/fp8_folder.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using namespace octet::test;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::filesystem::path kModels = source_dir() / "tests/golden/models";
const std::filesystem::path kTied = kModels / "llama_tied";
const std::filesystem::path kUntied = kModels / "qwen3";
const std::filesystem::path kBiased = kModels / "llama_bias";
const std::filesystem::path kDemo = source_dir() / "models/demo";  // 192 columns

ModelOptions options_of(const QuantOptions& quant) {
  ModelOptions options;
  options.quant = quant;
  return options;
}

/// The bytes of every matrix as it is held: codes with the layout's padding, then scales.
std::map<std::string, std::vector<std::byte>> held_bytes(Model& model) {
  std::map<std::string, std::vector<std::byte>> result;
  for (const Parameter& parameter : model.decoder().parameters()) {
    auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination);
    if (matrix == nullptr) {
      const TensorView tensor = std::get<StoredVector*>(parameter.destination)->tensor.view();
      const auto bytes = tensor.shape().elements() * dtype_size(tensor.dtype());
      result[parameter.name].assign(tensor.data(), tensor.data() + bytes);
      continue;
    }
    const QuantMatrixView view = (*matrix)->matrix.view();
    std::vector<std::byte>& bytes = result[(*matrix)->name];
    bytes.assign(view.data, view.data + matrix_bytes(view.layout, view.dtype, view.rows, view.cols));
    const auto* scales = reinterpret_cast<const std::byte*>(view.scales);
    bytes.insert(bytes.end(), scales, scales + (*matrix)->matrix.spec().scale_count() * 4);
  }
  return result;
}

struct Case {
  std::string name;
  std::filesystem::path model;
  ExportFormat format;
  QuantOptions quant;
};

QuantOptions quant_of(std::optional<Granularity> granularity, bool head = false, bool embedding = false) {
  QuantOptions quant;
  quant.quantization = granularity;
  quant.fp8_lm_head = head;
  quant.fp8_embedding = embedding;
  return quant;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const std::filesystem::path& model, ExportFormat format, const QuantOptions& quant) {
    all.push_back({.name = model.filename().string() + " " + std::string(to_string(format)) + " " +
                           (quant.quantization ? std::string(to_string(*quant.quantization)) : "none") +
                           (quant.raw_cast ? " raw cast" : "") + (quant.fp8_lm_head ? " head" : "") +
                           (quant.fp8_embedding ? " embedding" : "") + " " +
                           std::string(to_string(quant.fp8_format)),
                   .model = model,
                   .format = format,
                   .quant = quant});
  };
  constexpr std::array kAll = {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock};
  for (const std::filesystem::path& model : {kTied, kUntied, kBiased, kDemo}) {
    for (const Granularity granularity : kAll) {
      for (const bool head : {false, true}) {
        for (const bool embedding : {false, true}) {
          add(model, ExportFormat::kRaw, quant_of(granularity, head, embedding));
          if (granularity != Granularity::kBlock)
            add(model, ExportFormat::kCompressedTensors, quant_of(granularity, head, embedding));
        }
      }
    }
    add(model, ExportFormat::kFp8, quant_of(Granularity::kTensor));
    add(model, ExportFormat::kFp8Block, quant_of(Granularity::kBlock));
    QuantOptions raw = quant_of(std::nullopt, true);
    raw.raw_cast = true;
    add(model, ExportFormat::kRaw, raw);
    raw.quantization = Granularity::kChannel;
    raw.fp8_format = DType::kF8E5M2;
    add(model, ExportFormat::kRaw, raw);
    QuantOptions profile = quant_of(Granularity::kTensor);
    profile.numerics = NumericsProfile::kCompressedTensors;
    add(model, ExportFormat::kCompressedTensors, profile);
    QuantOptions some = quant_of(Granularity::kChannel);
    some.ignore = {"*.layers.0.mlp.*"};
    add(model, ExportFormat::kCompressedTensors, some);
  }
  return all;
}

TEST(Quantize, WritesWhatLoadingWouldHoldToTheByteAndToTheLogit) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    Model on_the_fly(one.model, options_of(one.quant));
    on_the_fly.load();
    const TempFolder folder;
    const auto report = quantize_checkpoint(one.model, folder.path() / "out",
                                            {.model = options_of(one.quant), .format = one.format});
    EXPECT_GT(report.bytes_after, 0);
    // As it is, and with options that would quantize what was left alone.
    for (const auto& granularity : {std::optional<Granularity>(), std::optional(Granularity::kChannel)}) {
      Model again(folder.path() / "out", options_of(quant_of(granularity)));
      again.load();
      EXPECT_EQ(held_bytes(again), held_bytes(on_the_fly));
      EXPECT_EQ(folder_logits(again), folder_logits(on_the_fly));
      EXPECT_TRUE(again.load_report().unused.empty());
    }
  }
}

class QuantizeFolder : public ::testing::Test {
 protected:
  QuantizeReport write(const QuantOptions& quant, ExportFormat format = ExportFormat::kCompressedTensors) {
    return quantize_checkpoint(model_, out_, {.model = options_of(quant), .format = format});
  }
  template <class E>
  std::string refusal(const QuantOptions& quant, ExportFormat format) {
    try {
      (void)write(quant, format);
    } catch (const E& error) {
      EXPECT_FALSE(std::filesystem::exists(out_));
      return error.what();
    }
    return "accepted";
  }
  [[nodiscard]] Json config() const {
    return parse_json(read_text_file(out_ / "config.json"), "config.json");
  }
  [[nodiscard]] std::map<std::string, SourceTensor> tensors() const {
    std::map<std::string, SourceTensor> result;
    const Model model(out_, options_of(quant_of(std::nullopt)));
    for (const SourceTensor& tensor : model.source().tensors()) result[tensor.name] = tensor;
    return result;
  }

  TempFolder folder_;
  std::filesystem::path out_ = folder_.path() / "out";
  std::filesystem::path model_ = kUntied;
  static constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";
};

TEST_F(QuantizeFolder, IsTheSameForOneThreadAndMany) {
  std::string first;
  for (const int threads : {1, 2, 5}) {
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kBlock}) {
      const auto out = folder_.path() / (std::to_string(threads) + std::string(to_string(granularity)));
      ModelOptions options = options_of(quant_of(granularity));
      options.device.threads = threads;
      (void)quantize_checkpoint(kDemo, out, {.model = options, .format = ExportFormat::kRaw});
      const auto one = folder_.path() / ("1" + std::string(to_string(granularity)));
      EXPECT_EQ(read_text_file(out / "model.safetensors"), read_text_file(one / "model.safetensors"));
    }
  }
}

TEST_F(QuantizeFolder, NamesAndShapesScalesAsEachDialectDoes) {
  const auto rows = static_cast<int64_t>(128);
  const auto check = [&](Granularity granularity, ExportFormat format, const std::string& suffix,
                         const std::vector<int64_t>& shape) {
    SCOPED_TRACE(to_string(format));
    out_ = folder_.path() / (std::string(to_string(format)) + std::string(to_string(granularity)));
    (void)write(quant_of(granularity), format);
    const auto found = tensors();
    ASSERT_TRUE(found.contains(kQuery + suffix));
    EXPECT_EQ(found.at(kQuery + suffix).shape, shape);
    EXPECT_EQ(found.at(kQuery + suffix).dtype, DType::kF32);
    EXPECT_EQ(found.at(kQuery).dtype, DType::kF8E4M3);
    EXPECT_EQ(found.at(kQuery).shape, (std::vector<int64_t>{rows, 40}));
  };
  check(Granularity::kTensor, ExportFormat::kCompressedTensors, "_scale", {1});
  check(Granularity::kChannel, ExportFormat::kCompressedTensors, "_scale", {rows, 1});
  check(Granularity::kTensor, ExportFormat::kFp8, "_scale", {});
  check(Granularity::kBlock, ExportFormat::kFp8Block, "_scale_inv", {1, 1});
  check(Granularity::kTensor, ExportFormat::kRaw, "_scale", {rows});
  check(Granularity::kBlock, ExportFormat::kRaw, "_scale", {1, 1});
}

TEST_F(QuantizeFolder, SaysInItsConfigWhatItHolds) {
  QuantOptions quant = quant_of(Granularity::kChannel);
  quant.ignore = {"model.layers.0.mlp.down_proj"};
  (void)write(quant);
  const Json entry = config()["quantization_config"];
  EXPECT_EQ(entry["quant_method"], "compressed-tensors");
  EXPECT_EQ(entry["format"], "float-quantized");
  const Json group = entry["config_groups"]["group_0"];
  EXPECT_EQ(group["targets"], Json::array({"Linear"}));
  EXPECT_EQ(group["weights"]["strategy"], "channel");
  EXPECT_EQ(group["input_activations"]["strategy"], "token");
  EXPECT_EQ(group["input_activations"]["dynamic"], true);
  const auto ignored = entry["ignore"].get<std::set<std::string>>();
  EXPECT_EQ(ignored, (std::set<std::string>{"lm_head", "model.layers.0.mlp.down_proj"}));
}

TEST_F(QuantizeFolder, KeepsTheHeadOfATiedModelOnTheListOfWhatIsNotInFp8) {
  model_ = kTied;
  (void)write(quant_of(Granularity::kChannel));
  EXPECT_EQ(config()["quantization_config"]["ignore"], Json::array({"lm_head"}));
  EXPECT_FALSE(tensors().contains("lm_head.weight"));
}

TEST_F(QuantizeFolder, SaysWhichActivationsGoWithTheWeights) {
  const auto inputs = [&](Granularity granularity, ActivationScheme scheme) {
    out_ = folder_.path() / (std::string(to_string(granularity)) + std::string(to_string(scheme)));
    model_ = granularity == Granularity::kBlock ? kDemo : kUntied;
    QuantOptions quant = quant_of(granularity);
    quant.activation_scheme = scheme;
    (void)write(quant, granularity == Granularity::kBlock ? ExportFormat::kFp8Block
                                                          : ExportFormat::kCompressedTensors);
    return config()["quantization_config"];
  };
  EXPECT_TRUE(
      inputs(Granularity::kChannel, ActivationScheme::kNone)["config_groups"]["group_0"]["input_activations"]
          .is_null());
  EXPECT_EQ(inputs(Granularity::kBlock, ActivationScheme::kDynamic)["activation_scheme"], "dynamic");
  EXPECT_EQ(inputs(Granularity::kBlock, ActivationScheme::kAuto)["weight_block_size"],
            Json::array({128, 128}));
}

TEST_F(QuantizeFolder, RefusesWhatTheFormatCannotSay) {
  const auto rows = quant_of(Granularity::kChannel);
  const auto blocks = quant_of(Granularity::kBlock);
  QuantOptions raw = rows;
  raw.raw_cast = true;
  QuantOptions e5m2 = rows;
  e5m2.fp8_format = DType::kF8E5M2;
  EXPECT_THAT(refusal<ConfigError>(rows, ExportFormat::kFp8),
              AllOf(HasSubstr("--format fp8"), HasSubstr("one scale per matrix, found one scale per row"),
                    HasSubstr("and 13 more"), HasSubstr("--quantization fp8_per_tensor")));
  EXPECT_THAT(refusal<ConfigError>(rows, ExportFormat::kFp8Block), HasSubstr("--quantization fp8_per_block"));
  EXPECT_THAT(refusal<ConfigError>(blocks, ExportFormat::kCompressedTensors),
              HasSubstr("divide the columns evenly"));
  for (const ExportFormat format :
       {ExportFormat::kCompressedTensors, ExportFormat::kFp8, ExportFormat::kFp8Block}) {
    EXPECT_THAT(refusal<ConfigError>(raw, format), HasSubstr("needs scales, a raw cast has none"));
    EXPECT_THAT(refusal<ConfigError>(e5m2, format), HasSubstr("E4M3 only, found F8_E5M2"));
  }
  EXPECT_THAT(refusal<ConfigError>(quant_of(Granularity::kTensor, true), ExportFormat::kFp8),
              AllOf(HasSubstr("lm_head"), HasSubstr("linear layers only")));
  EXPECT_THAT(refusal<ConfigError>(quant_of(Granularity::kBlock, false, true), ExportFormat::kFp8Block),
              AllOf(HasSubstr("embed_tokens"), HasSubstr("linear layers only")));
  QuantOptions weights = quant_of(Granularity::kTensor);
  weights.activation_scheme = ActivationScheme::kNone;
  EXPECT_THAT(refusal<ConfigError>(weights, ExportFormat::kFp8), HasSubstr("found --activation-scheme none"));
  EXPECT_THAT(refusal<ConfigError>(quant_of(std::nullopt), ExportFormat::kRaw),
              HasSubstr("nothing to write"));
}

TEST_F(QuantizeFolder, WritesAnFp8CheckpointInAnotherDialectWithTheSameCodes) {
  const auto middle = folder_.path() / "middle";
  (void)quantize_checkpoint(
      kUntied, middle, {.model = options_of(quant_of(Granularity::kTensor)), .format = ExportFormat::kFp8});
  Model original(middle, options_of(quant_of(std::nullopt)));
  original.load();
  for (const ExportFormat format :
       {ExportFormat::kCompressedTensors, ExportFormat::kRaw, ExportFormat::kFp8}) {
    out_ = folder_.path() / to_string(format);
    (void)quantize_checkpoint(middle, out_,
                              {.model = options_of(quant_of(Granularity::kChannel)), .format = format});
    Model again(out_, options_of(quant_of(std::nullopt)));
    again.load();
    EXPECT_EQ(held_bytes(again), held_bytes(original)) << to_string(format);
  }
  out_ = folder_.path() / "no";
  model_ = middle;
  EXPECT_THAT(refusal<ConfigError>(quant_of(Granularity::kBlock), ExportFormat::kFp8Block),
              HasSubstr("found one scale per matrix"));
}

TEST_F(QuantizeFolder, KeepsTheStaticScalesOfItsSource) {
  Model original(kUntied, options_of(quant_of(Granularity::kTensor)));
  original.load();
  FileTensors tensors = tensors_of(original, ScaleDialect::kScalar);
  for (const auto& [name, tensor] : FileTensors(tensors)) {
    if (!name.ends_with("_scale")) continue;
    const std::string module = name.substr(0, name.size() - std::strlen(".weight_scale"));
    tensors[module + ".activation_scale"] = float_tensor({}, {0.03125F});
  }
  const auto source = folder_.path() / "source";
  std::filesystem::create_directory(source);
  write_folder(source, kUntied, {{"quant_method", "fp8"}, {"activation_scheme", "static"}}, tensors);
  model_ = source;
  QuantOptions fixed = quant_of(std::nullopt);
  fixed.activation_scheme = ActivationScheme::kStatic;
  Model before(source, options_of(fixed));
  before.load();
  for (const ExportFormat format :
       {ExportFormat::kCompressedTensors, ExportFormat::kFp8, ExportFormat::kRaw}) {
    out_ = folder_.path() / to_string(format);
    (void)write(quant_of(Granularity::kChannel), format);
    Model again(out_, options_of(fixed));
    again.load();
    EXPECT_EQ(folder_logits(again), folder_logits(before)) << to_string(format);
    EXPECT_EQ(this->tensors().at("model.layers.0.mlp.up_proj.input_scale").shape,
              format == ExportFormat::kCompressedTensors ? std::vector<int64_t>{1} : std::vector<int64_t>{});
  }
}

TEST_F(QuantizeFolder, CopiesTensorsThatTheModelDoesNotUse) {
  Model original(kUntied, options_of(quant_of(std::nullopt)));
  original.load();
  FileTensors tensors = tensors_of(original, ScaleDialect::kColumn);
  tensors["vision_tower.proj.weight"] = float_tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto source = folder_.path() / "source";
  std::filesystem::create_directory(source);
  write_folder(source, kUntied, nullptr, tensors);
  model_ = source;
  ModelOptions options = options_of(quant_of(Granularity::kChannel));
  std::string warning;
  options.warn = [&](const std::string& text) { warning += text; };
  (void)quantize_checkpoint(source, out_, {.model = options, .format = ExportFormat::kCompressedTensors});
  EXPECT_THAT(warning, AllOf(HasSubstr("1 tensors"), HasSubstr("'vision_tower.proj.weight'")));
  const Model again(out_, options_of(quant_of(std::nullopt)));
  for (const SourceTensor& tensor : again.source().tensors()) {
    if (tensor.name != "vision_tower.proj.weight") continue;
    std::vector<float> values(6);
    again.source().read_rows(tensor, 0, 2, std::as_writable_bytes(std::span(values)));
    EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  }
  EXPECT_THAT(config()["quantization_config"]["ignore"].dump(), HasSubstr("vision_tower.proj"));
}

TEST_F(QuantizeFolder, HoldsNoMoreThanItsBuffers) {
  const auto report = write(quant_of(Granularity::kChannel));
  EXPECT_LE(report.load.peak_bytes, report.load.predicted_peak_bytes);
  EXPECT_EQ(report.load.final_bytes, 0);
}

TEST_F(QuantizeFolder, TellsTheDtypeThatWasAskedFor) {
  ModelOptions options = options_of(quant_of(Granularity::kChannel));
  options.dtype = DType::kF16;
  (void)quantize_checkpoint(kUntied, out_, {.model = options, .format = ExportFormat::kRaw});
  EXPECT_EQ(config()["dtype"], "float16");
  EXPECT_EQ(tensors().at("model.norm.weight").dtype, DType::kF16);
}

}  // namespace
}  // namespace octet
