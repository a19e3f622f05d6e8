// SPDX-License-Identifier: Apache-2.0
#include "octet/models/registry.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "octet/models/architectures.h"

namespace octet {
namespace {

struct Architecture {
  std::string_view name;        // in `architectures`
  std::string_view model_type;  // where `architectures` is missing
  DecoderSpec (*read)(JsonFields& fields);
};

constexpr std::array<Architecture, 13> kArchitectures = {{
    {"DeepseekV2ForCausalLM", "deepseek_v2", read_deepseek_v2},
    {"DeepseekV3ForCausalLM", "deepseek_v3", read_deepseek_v3},
    {"Glm4MoeLiteForCausalLM", "glm4_moe_lite", read_glm4_moe_lite},
    {"LlamaForCausalLM", "llama", read_llama},
    {"MistralForCausalLM", "mistral", read_mistral},
    {"Ministral3ForCausalLM", "ministral3", read_mistral},
    {"Mistral3ForConditionalGeneration", "mistral3", read_mistral3},
    {"MixtralForCausalLM", "mixtral", read_mixtral},
    {"OPTForCausalLM", "opt", read_opt},
    {"Qwen2ForCausalLM", "qwen2", read_qwen2},
    {"Qwen2MoeForCausalLM", "qwen2_moe", read_qwen2_moe},
    {"Qwen3ForCausalLM", "qwen3", read_qwen3},
    {"Qwen3MoeForCausalLM", "qwen3_moe", read_qwen3_moe},
}};

/// Levenshtein's distance, for the nearest known name.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::string asked_architecture(const Json& config, const std::string& source) {
  if (const auto it = config.find("architectures"); it != config.end() && !it->is_null()) {
    if (it->is_array() && it->size() == 1 && it->front().is_string()) return it->front().get<std::string>();
    throw ConfigError(source + ": architectures: expected a list of one name, found " +
                      it->dump().substr(0, 200));
  }
  if (const auto it = config.find("model_type"); it != config.end() && it->is_string())
    return it->get<std::string>();
  throw ConfigError(source + ": expected the field architectures or model_type, found neither");
}

[[noreturn]] void refuse(const std::string& asked, const std::string& source) {
  const auto nearest = std::min_element(
      kArchitectures.begin(), kArchitectures.end(),
      [&](const auto& a, const auto& b) { return distance(asked, a.name) < distance(asked, b.name); });
  std::string known;
  for (const Architecture& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
  throw ConfigError(source + ": architectures: \"" + asked.substr(0, 200) +
                    "\" is not supported; the nearest known one is " + std::string(nearest->name) +
                    " (known: " + known + ")");
}

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture& a : kArchitectures) names.emplace_back(a.name);
  return names;
}

DecoderSpec read_decoder_spec(const Json& config, const std::string& source) {
  if (!config.is_object())
    throw ConfigError(source + ": expected a JSON object, found " + config.type_name());
  const std::string asked = asked_architecture(config, source);
  for (const Architecture& a : kArchitectures) {
    if (a.name != asked && a.model_type != asked) continue;
    JsonFields fields(config, source);
    DecoderSpec spec = a.read(fields);
    fields.finish();
    spec.architecture = a.name;
    return spec;
  }
  refuse(asked, source);
}

}  // namespace octet
