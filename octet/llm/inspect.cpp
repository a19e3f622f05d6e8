// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/inspect.h"

#include <array>

namespace octet {
namespace {

/// An option that stores more in FP8, and how to switch it.
struct Switch {
  const char* option;
  bool (*given)(const QuantOptions&);
  void (*set)(QuantOptions&, bool);
};

constexpr std::array<Switch, 3> kSwitches = {{
    {"--quantization fp8", [](const QuantOptions& q) { return q.quantization.has_value(); },
     [](QuantOptions& q, bool on) {
       q.quantization = on ? std::optional(Granularity::kChannel) : std::nullopt;
     }},
    {"--fp8-lm-head", [](const QuantOptions& q) { return q.fp8_lm_head; },
     [](QuantOptions& q, bool on) { q.fp8_lm_head = on; }},
    {"--fp8-embedding", [](const QuantOptions& q) { return q.fp8_embedding; },
     [](QuantOptions& q, bool on) { q.fp8_embedding = on; }},
}};

OptionSaving saving(Model& model, const Switch& option, int64_t kv_bytes_per_token) {
  QuantOptions other = model.options().quant;
  const bool given = option.given(other);
  option.set(other, !given);
  // A scheme for FP8 weights contradicts options without any; it moves no byte of the weights.
  other.activation_scheme = ActivationScheme::kAuto;
  const MemoryPlan plan = model.plan_with(other);
  const int64_t saved = given ? saved_bytes(plan, model.plan()) : saved_bytes(model.plan(), plan);
  return {.option = option.option,
          .in_force = given,
          .saved_bytes = saved,
          .kv_cache_tokens = kv_bytes_per_token > 0 ? saved / kv_bytes_per_token : 0};
}

}  // namespace

Inspection inspect(Model& model, std::optional<DType> kv_cache_dtype) {
  Inspection result;
  result.architecture = model.spec().architecture;
  result.backend = model.backend().describe();
  result.dtype = model.dtype();
  result.plan = model.plan();
  result.max_position_embeddings = model.spec().max_position_embeddings;
  result.kv_cache_bytes_per_token =
      kv_cache_spec(model.spec(), kv_cache_dtype.value_or(model.dtype())).bytes_per_token();
  for (const PlanGroup& group : result.plan.groups) result.parameters += group.elements;
  for (const Switch& option : kSwitches) {
    result.options.push_back(saving(model, option, result.kv_cache_bytes_per_token));
  }
  return result;
}

Json Inspection::to_json() const {
  Json groups = Json::array();
  for (const PlanGroup& group : plan.groups) {
    groups.push_back({{"name", group.name},
                      {"elements", group.elements},
                      {"bytes_before", group.bytes_before},
                      {"bytes_after", group.bytes_after}});
  }
  Json savings = Json::array();
  for (const OptionSaving& saving : options) {
    savings.push_back({{"option", saving.option},
                       {"in_force", saving.in_force},
                       {"saved_bytes", saving.saved_bytes},
                       {"kv_cache_tokens", saving.kv_cache_tokens}});
  }
  return {
      {"architecture", architecture},
      {"parameters", parameters},
      {"dtype", torch_name(dtype)},
      {"backend", backend},
      {"max_position_embeddings", max_position_embeddings},
      {"groups", std::move(groups)},
      {"plan",
       {{"final_bytes", plan.final_bytes}, {"peak_bytes", plan.peak_bytes}, {"read_bytes", plan.read_bytes}}},
      {"kv_cache_bytes_per_token", kv_cache_bytes_per_token},
      {"options", std::move(savings)}};
}

}  // namespace octet
