// SPDX-License-Identifier: Apache-2.0
// The digests of a model that is cut over ranks are those of one rank.
#include "octet/loading/gathered_digest.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "octet/llm/model.h"
#include "tests/comm/thread_world.h"
#include "tests/support/source_dir.h"

namespace octet {
namespace {

using Digests = std::map<std::string, std::string>;

std::filesystem::path folder_of(const std::string& name) {
  const std::filesystem::path source = source_dir();
  for (const char* group : {"tests/golden/models", "tests/golden/more_models", "models"}) {
    if (std::filesystem::exists(source / group / name / "config.json")) return source / group / name;
  }
  throw ArgumentError("no folder " + name);
}

Digests digests_of(const std::string& folder, const QuantOptions& quant, int ranks) {
  Digests found;
  test::run_ranks(ranks, [&](Communicator& communicator) {
    ModelOptions options;
    options.quant = quant;
    options.device.threads = 1;
    options.communicator = &communicator;
    Model model(folder_of(folder), options);
    model.load();
    const auto digests = gathered_digests(model.backend(), model.decoder().parameters(), communicator);
    EXPECT_EQ(digests.empty(), communicator.rank() != 0);
    for (const WeightDigest& digest : digests) found[digest.name] = digest.sha256;
  });
  return found;
}

/// By the function for models that are not cut.
Digests digests_of_one(const std::string& folder, const QuantOptions& quant) {
  ModelOptions options;
  options.quant = quant;
  options.device.threads = 1;
  Model model(folder_of(folder), options);
  model.load();
  Digests found;
  for (const WeightDigest& digest : weight_digests(model.backend(), model.decoder().parameters()))
    found[digest.name] = digest.sha256;
  return found;
}

void expect_equal_digests(const std::string& folder, const QuantOptions& quant) {
  const Digests one = digests_of_one(folder, quant);
  EXPECT_GT(one.size(), 10U);
  for (const int ranks : {1, 2, 3})
    EXPECT_EQ(digests_of(folder, quant, ranks), one) << folder << " " << ranks;
}

TEST(ParallelDigest, IsThatOfOneRankForEveryGranularityFormatAndProfile) {
  for (const char* folder : {"llama_tied", "llama_bias", "mistral_full", "opt", "qwen2_moe", "mixtral_fused",
                             "qwen3_moe_transposed", "glm4_moe_lite"}) {
    for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
      QuantOptions quant;
      quant.quantization = granularity;
      expect_equal_digests(folder, quant);
      quant.numerics = NumericsProfile::kCompressedTensors;
      quant.fp8_format = DType::kF8E5M2;
      quant.fp8_lm_head = quant.fp8_embedding = true;
      expect_equal_digests(folder, quant);
    }
    QuantOptions raw;
    raw.raw_cast = true;
    expect_equal_digests(folder, raw);
    QuantOptions plain;
    plain.quantization.reset();
    expect_equal_digests(folder, plain);
  }
}

TEST(ParallelDigest, IsThatOfOneRankForShardsThatBeginInsideABlock) {
  QuantOptions quant;
  quant.quantization = Granularity::kBlock;
  quant.fp8_lm_head = true;
  expect_equal_digests("demo", quant);
}

}  // namespace
}  // namespace octet
