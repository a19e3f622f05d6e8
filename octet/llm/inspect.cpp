// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/inspect.h"

#include <array>
#include <set>

namespace octet {
namespace {

/// An option that stores more in FP8, and how to switch it.
struct Switch {
  const char* option;
  bool of_tables;
  bool (*given)(const QuantOptions&);
  void (*set)(QuantOptions&, bool);
};

constexpr std::array<Switch, 3> kSwitches = {{
    {"--quantization fp8", false, [](const QuantOptions& q) { return q.quantization.has_value(); },
     [](QuantOptions& q, bool on) {
       q.quantization = on ? std::optional(Granularity::kChannel) : std::nullopt;
     }},
    {"--fp8-lm-head", true, [](const QuantOptions& q) { return q.fp8_lm_head; },
     [](QuantOptions& q, bool on) { q.fp8_lm_head = on; }},
    {"--fp8-embedding", true, [](const QuantOptions& q) { return q.fp8_embedding; },
     [](QuantOptions& q, bool on) { q.fp8_embedding = on; }},
}};

/// The scheme moves no byte of the weights, but may contradict options without an FP8 weight, and so does a
/// raw cast.
MemoryPlan plan_of_weights(Model& model, QuantOptions quant) {
  quant.activation_scheme = ActivationScheme::kAuto;
  quant.raw_cast = quant.raw_cast && quant.quantizes();
  return model.plan_with(quant);
}

/// The options with this one turned round. A tied model has one table: without it means without either
/// option.
QuantOptions switched(const Model& model, const Switch& option) {
  QuantOptions other = model.options().quant;
  const bool on = !option.given(other);
  option.set(other, on);
  if (option.of_tables && model.spec().tie_word_embeddings) other.fp8_lm_head = other.fp8_embedding = on;
  return other;
}

OptionSaving saving(const Switch& option, bool in_force, int64_t saved, int64_t kv_bytes_per_token) {
  return {.option = option.option,
          .in_force = in_force,
          .saved_bytes = saved,
          .kv_cache_tokens = kv_bytes_per_token > 0 ? saved / kv_bytes_per_token : 0};
}

OptionSaving planned_saving(Model& model, const Switch& option, int64_t kv_bytes_per_token) {
  const bool given = option.given(model.options().quant);
  const MemoryPlan now = plan_of_weights(model, model.options().quant);
  const MemoryPlan other = plan_of_weights(model, switched(model, option));
  return saving(option, given, given ? saved_bytes(other, now) : saved_bytes(now, other), kv_bytes_per_token);
}

/// What the loaded weights hold, each destination once. The scales of static activations belong to a scheme
/// and not to the weights.
int64_t held_bytes(Model& model) {
  std::set<const void*> seen;
  int64_t bytes = 0;
  for (const Parameter& parameter : model.decoder().parameters()) {
    if (auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination)) {
      if (seen.insert(*matrix).second) bytes += (*matrix)->matrix.bytes();
      for (const StoredVector& scale : (*matrix)->input_scales) seen.insert(&scale);
      continue;
    }
    const StoredVector* vector = std::get<StoredVector*>(parameter.destination);
    if (seen.insert(vector).second) bytes += vector->tensor.bytes();
  }
  return bytes;
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
      kv_cache_spec(model.decoder(), kv_cache_dtype.value_or(model.dtype())).bytes_per_token();
  for (const PlanGroup& group : result.plan.groups) result.parameters += group.elements;
  for (const Switch& option : kSwitches) {
    result.options.push_back(planned_saving(model, option, result.kv_cache_bytes_per_token));
  }
  return result;
}

std::vector<OptionSaving> savings_of_loaded(Model& model, int64_t kv_bytes_per_token) {
  std::vector<OptionSaving> savings;
  const int64_t held = held_bytes(model);
  for (const Switch& option : kSwitches) {
    if (!option.given(model.options().quant)) continue;
    const MemoryPlan without = plan_of_weights(model, switched(model, option));
    savings.push_back(saving(option, true, without.final_bytes - held, kv_bytes_per_token));
  }
  return savings;
}

Json to_json(std::span<const OptionSaving> savings) {
  Json list = Json::array();
  for (const OptionSaving& saving : savings) {
    list.push_back({{"option", saving.option},
                    {"in_force", saving.in_force},
                    {"saved_bytes", saving.saved_bytes},
                    {"kv_cache_tokens", saving.kv_cache_tokens}});
  }
  return list;
}

Json Inspection::to_json() const {
  Json groups = Json::array();
  for (const PlanGroup& group : plan.groups) {
    groups.push_back({{"name", group.name},
                      {"elements", group.elements},
                      {"bytes_before", group.bytes_before},
                      {"bytes_after", group.bytes_after}});
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
      {"options", octet::to_json(options)}};
}

}  // namespace octet
