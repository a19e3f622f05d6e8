// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/export_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>

#include "octet/base/error.h"
#include "octet/quant/quant_config.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::array kFormats = {ExportFormat::kRaw, ExportFormat::kCompressedTensors, ExportFormat::kFp8,
                                 ExportFormat::kFp8Block};

ExportedMatrix matrix(const std::string& module, ScaleSharing sharing, int64_t block = 0) {
  return {.module = module,
          .sharing = sharing,
          .rows = 300,
          .cols = 256,
          .block_rows = block,
          .block_cols = block};
}

std::string refusal_of_export(ExportFormat format, const std::vector<ExportedMatrix>& matrices,
                              ActivationScheme scheme = ActivationScheme::kDynamic) {
  return test::refusal<ConfigError>([&] { (void)express(format, matrices, scheme); });
}

TEST(ExportFormat, RawHoldsEverything) {
  EXPECT_EQ(refusal_of_export(ExportFormat::kRaw,
                              {matrix("a", ScaleSharing::kNone), matrix("b", ScaleSharing::kRow),
                               matrix("c", ScaleSharing::kBlock, 128)}),
            "accepted");
}

TEST(ExportFormat, AScalePerMatrixBesideScalesPerRowIsSpreadToRows) {
  const std::vector<ExportedMatrix> both = {matrix("a", ScaleSharing::kTensor),
                                            matrix("b", ScaleSharing::kRow)};
  const auto quantization = express(ExportFormat::kCompressedTensors, both, ActivationScheme::kDynamic);
  EXPECT_EQ(quantization.sharing, ScaleSharing::kRow);
  EXPECT_THAT(*scale_shape(ExportFormat::kCompressedTensors, both[0], quantization.sharing),
              ElementsAre(300, 1));
  EXPECT_THAT(*scale_shape(ExportFormat::kCompressedTensors, both[0], ScaleSharing::kTensor), ElementsAre(1));
}

TEST(ExportFormat, BlocksStandOnlyBesideTheirLike) {
  EXPECT_THAT(refusal_of_export(ExportFormat::kCompressedTensors,
                                {matrix("a", ScaleSharing::kBlock, 128), matrix("b", ScaleSharing::kRow)}),
              AllOf(HasSubstr("b: "), HasSubstr("one scale per row beside one scale per block")));
  EXPECT_THAT(refusal_of_export(ExportFormat::kFp8Block, {matrix("a", ScaleSharing::kBlock, 64)}),
              HasSubstr("found blocks of 64 x 64"));
}

TEST(ExportFormat, RefusalsNameTheFirstModuleAndCountTheRest) {
  const std::string text = refusal_of_export(
      ExportFormat::kFp8, {matrix("first", ScaleSharing::kRow), matrix("second", ScaleSharing::kRow),
                           matrix("third", ScaleSharing::kRow)});
  EXPECT_THAT(text, AllOf(HasSubstr("--format fp8"), HasSubstr("first and 2 more: "),
                          HasSubstr("take --quantization fp8_per_tensor")));
}

TEST(ExportFormat, StaticActivationsDoNotGoWithBlocks) {
  EXPECT_THAT(refusal_of_export(ExportFormat::kFp8Block, {matrix("a", ScaleSharing::kBlock, 128)},
                                ActivationScheme::kStatic),
              HasSubstr("block scales go with dynamic activations"));
}

TEST(ExportFormat, NamesTheEmbeddingAmongItsTargetsWhereItIsInFp8) {
  ExportedMatrix table = matrix("model.embed_tokens", ScaleSharing::kRow);
  table.role = WeightRole::kEmbedding;
  const auto quantization = express(ExportFormat::kCompressedTensors, {table}, ActivationScheme::kDynamic);
  const Json entry = quantization_entry(ExportFormat::kCompressedTensors, quantization);
  EXPECT_EQ(entry["config_groups"]["group_0"]["targets"], Json::array({"Linear", "Embedding"}));
}

TEST(ExportFormat, EveryEntryIsReadBackAsItWasMeant) {
  for (const ExportFormat format : kFormats) {
    for (const ActivationScheme scheme : {ActivationScheme::kDynamic, ActivationScheme::kStatic}) {
      if (format == ExportFormat::kFp8Block && scheme == ActivationScheme::kStatic) continue;
      const bool blocks = format == ExportFormat::kFp8Block;
      const auto sharing = blocks ? ScaleSharing::kBlock : ScaleSharing::kTensor;
      ExportedQuantization quantization = express(format, {matrix("a", sharing, blocks ? 128 : 0)}, scheme);
      quantization.ignore = {"lm_head", "model.layers.0.mlp.gate"};
      const QuantConfig read = read_quant_config(quantization_entry(format, quantization), "config.json");
      EXPECT_EQ(read.static_activations, scheme == ActivationScheme::kStatic) << to_string(format);
      EXPECT_EQ(read.block_rows, blocks ? std::optional<int64_t>(128) : std::nullopt);
      EXPECT_EQ(std::set(read.ignore.begin(), read.ignore.end()),
                (std::set<std::string>{"lm_head", "model.layers.0.mlp.gate"}));
    }
  }
}

TEST(ExportFormat, WeightsInFp8BesideInputsThatAreNotHaveALayoutOfTheirOwn) {
  const auto quantization =
      express(ExportFormat::kCompressedTensors, {matrix("a", ScaleSharing::kRow)}, ActivationScheme::kNone);
  const Json entry = quantization_entry(ExportFormat::kCompressedTensors, quantization);
  EXPECT_EQ(entry["format"], "naive-quantized");
  EXPECT_TRUE(entry["config_groups"]["group_0"]["input_activations"].is_null());
  EXPECT_FALSE(read_quant_config(entry, "config.json").static_activations);
}

}  // namespace
}  // namespace octet
