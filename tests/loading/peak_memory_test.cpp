// SPDX-License-Identifier: Apache-2.0
// The promise about memory, held by the ledger: the peak while loading is what the plan said and little above
// the end.
#include <gtest/gtest.h>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/dummy_weights.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"

namespace octet {
namespace {

TEST(PeakMemory, ThePeakIsThePlanToTheByteAndTheEndIsTheFinalSize) {
  for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
    for (const int threads : {1, 4}) {
      MemoryLedger ledger;
      ReferenceBackend backend(ledger, MatrixLayout::kLanes64, threads);
      TestModel model;
      const StorageRule rule{.quantize = true, .granularity = granularity};
      model.matrix({{"model.embed_tokens.weight", 501}}, 130, {});
      for (int layer = 0; layer < 4; ++layer) {
        const std::string name = "model.layers." + std::to_string(layer);
        model.matrix({{name + ".q_proj.weight", 130}, {name + ".k_proj.weight", 66}}, 130, rule);
        model.matrix({{name + ".up_proj.weight", 300}}, 130, rule);
        model.vector({{name + ".norm.weight", 130}});
      }
      const Buffer held(backend.allocator(), ledger, "other", 12345);
      const DummyWeights source(model.parameters, DType::kBF16);
      const LoadReport report = WeightLoader(backend, model.parameters, {.tile_bytes = 4096}).pull(source);
      EXPECT_EQ(report.final_bytes, report.predicted_final_bytes);
      EXPECT_EQ(report.peak_bytes, report.predicted_peak_bytes);
      EXPECT_EQ(ledger.current(), 12345 + report.final_bytes);
      EXPECT_EQ(ledger.current("loading"), 0);
      EXPECT_LE(report.peak_bytes, report.final_bytes + (int64_t{64} << 20));
      EXPECT_GT(report.process_peak_rss_bytes, 0);
      EXPECT_GT(report.process_rss_before_bytes, 0);
      EXPECT_FALSE(report.timeline.empty());
    }
  }
}

}  // namespace
}  // namespace octet
