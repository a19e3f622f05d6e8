// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_report.h"

namespace octet {
namespace {

Json to_json(const WeightRecord& weight) {
  const auto ratio = weight.quantized ? sqnr_db(weight.stats) : std::nullopt;
  return {{"name", weight.name},
          {"file", weight.file},
          {"group", weight.group},
          {"use", to_string(weight.use)},
          {"source_dtype", to_string(weight.source_dtype)},
          {"stored_dtype", weight.stored_dtype ? Json(to_string(*weight.stored_dtype)) : Json(nullptr)},
          {"shape", weight.shape},
          {"scale_shape", weight.scale_shape},
          {"bytes", weight.bytes},
          {"elements", weight.elements},
          {"raw_cast", weight.raw_cast},
          {"sqnr_db", ratio ? Json(*ratio) : Json(nullptr)},
          {"zero_fraction", weight.quantized ? Json(zero_fraction(weight.stats)) : Json(nullptr)},
          {"saturated", weight.stats.saturated},
          {"nonfinite", weight.nonfinite}};
}

Json to_json(const WeightQuality& group) {
  const auto ratio = sqnr_db(group.stats);
  return {{"name", group.name},
          {"elements", group.stats.elements},
          {"sqnr_db", ratio ? Json(*ratio) : Json(nullptr)},
          {"zero_fraction", zero_fraction(group.stats)},
          {"saturated", group.stats.saturated}};
}

}  // namespace

std::string_view to_string(TensorUse use) {
  switch (use) {
    case TensorUse::kWeight:
      return "weight";
    case TensorUse::kTwin:
      return "second copy";
    case TensorUse::kScales:
      return "scales";
    case TensorUse::kUnused:
      return "unused";
    case TensorUse::kSkipped:
      return "skipped";
    case TensorUse::kSplit:
      return "split";
  }
  return "unknown";
}

std::vector<WeightQuality> LoadReport::quality() const {
  std::vector<WeightQuality> result;
  for (const WeightRecord& weight : weights) {
    if (!weight.quantized) continue;
    result.push_back(
        {.name = weight.name, .group = weight.group, .raw_cast = weight.raw_cast, .stats = weight.stats});
  }
  return result;
}

Json LoadReport::to_json() const {
  Json json = {{"predicted_final_bytes", predicted_final_bytes},
               {"predicted_peak_bytes", predicted_peak_bytes},
               {"final_bytes", final_bytes},
               {"peak_bytes", peak_bytes},
               {"process_peak_rss_bytes", process_peak_rss_bytes},
               {"process_rss_before_bytes", process_rss_before_bytes},
               {"read_bytes", read_bytes},
               {"seconds", seconds},
               {"groups", Json::array()},
               {"weights", Json::array()},
               {"missing", missing},
               {"unused", unused},
               {"second_copies", Json::array()},
               {"timeline", Json::array()}};
  for (const WeightQuality& group : quality_by_group(quality()))
    json["groups"].push_back(octet::to_json(group));
  for (const WeightRecord& weight : weights) json["weights"].push_back(octet::to_json(weight));
  for (const TwinDifference& twin : twins) {
    json["second_copies"].push_back({{"name", twin.name},
                                     {"second_copy", twin.twin},
                                     {"differing", twin.differing},
                                     {"max_abs_difference", twin.max_abs_difference}});
  }
  for (const MemorySample& sample : timeline) {
    json["timeline"].push_back({{"seconds", sample.seconds}, {"bytes", sample.bytes}});
  }
  return json;
}

}  // namespace octet
