// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_report.h"

#include <gtest/gtest.h>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"

namespace octet {
namespace {

Json load_json() {
  MemorySource source;
  source.add("model.norm.weight", DType::kBF16, {6});
  source.add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {130, 6});
  source.add("raw.weight", DType::kF8E5M2, {4, 6});
  source.add("stranger", DType::kI64, {2}, std::vector<std::byte>(16));
  MemoryLedger ledger;
  ReferenceBackend backend(ledger, MatrixLayout::kLanes64);
  TestModel model;
  model.vector({{"model.norm.weight", 6}});
  model.matrix({{"model.layers.0.mlp.up_proj.weight", 130}}, 6,
               {.quantize = true, .granularity = Granularity::kBlock});
  model.matrix({{"raw.weight", 4}}, 6, {});
  return WeightLoader(backend, model.parameters, {}).pull(source).to_json();
}

TEST(LoadReport, HasEveryPromisedField) {
  const Json json = load_json();
  for (const char* field : {"predicted_final_bytes", "predicted_peak_bytes", "final_bytes", "peak_bytes",
                            "process_peak_rss_bytes", "process_rss_before_bytes", "read_bytes", "seconds",
                            "weights", "missing", "unused", "timeline"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  for (const Json& weight : json["weights"]) {
    for (const char* field : {"name", "source_dtype", "stored_dtype", "shape", "scale_shape", "bytes",
                              "elements", "sqnr_db", "zero_fraction"}) {
      EXPECT_TRUE(weight.contains(field)) << field;
    }
  }
  for (const Json& sample : json["timeline"])
    EXPECT_TRUE(sample.contains("seconds") && sample.contains("bytes"));
}

TEST(LoadReport, HasARowForEveryTensorOfTheCheckpoint) {
  const Json json = load_json();
  ASSERT_EQ(json["weights"].size(), 4U);
  const Json& norm = json["weights"][0];
  EXPECT_EQ(norm["stored_dtype"], "BF16");
  EXPECT_EQ(norm["bytes"], 12);
  EXPECT_TRUE(norm["sqnr_db"].is_null());
  const Json& up = json["weights"][1];
  EXPECT_EQ(up["name"], "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(up["source_dtype"], "BF16");
  EXPECT_EQ(up["stored_dtype"], "F8_E4M3");
  EXPECT_EQ(up["shape"], Json::parse("[130, 6]"));
  EXPECT_EQ(up["scale_shape"], Json::parse("[2, 1]"));
  EXPECT_EQ(up["bytes"], 130 * 6 + 2 * 4);
  EXPECT_EQ(up["elements"], 130 * 6);
  EXPECT_GT(up["sqnr_db"].get<double>(), 20.0);
  EXPECT_EQ(up["group"], "mlp");
  const Json& raw = json["weights"][2];
  EXPECT_EQ(raw["stored_dtype"], "F8_E5M2");
  EXPECT_EQ(raw["scale_shape"], Json::array());
  EXPECT_EQ(raw["use"], "weight");
  const Json& stranger = json["weights"][3];
  EXPECT_TRUE(stranger["stored_dtype"].is_null());
  EXPECT_EQ(stranger["use"], "unused");
  EXPECT_EQ(json["unused"], Json::parse("[\"stranger\"]"));
}

TEST(LoadReport, TheRatioIsThatOfTheStoredValues) {
  MemorySource source;
  source.add("w.weight", DType::kF32, {1, 2}, {448.0F, 17.0F});
  MemoryLedger ledger;
  ReferenceBackend backend(ledger);
  TestModel model;
  model.matrix({{"w.weight", 1}}, 2, {.quantize = true});
  const LoadReport report = WeightLoader(backend, model.parameters, {}).pull(source);
  // The scale is 1, so 448 stays and 17 becomes 16.
  EXPECT_DOUBLE_EQ(report.weights[0].stats.signal, 448.0 * 448.0 + 17.0 * 17.0);
  EXPECT_DOUBLE_EQ(report.weights[0].stats.noise, 1.0);
}

}  // namespace
}  // namespace octet
