// SPDX-License-Identifier: Apache-2.0
#include "octet/models/registry.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "octet/base/faults.h"
#include "octet/models/architectures.h"
#include "octet/models/moe_config.h"

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
  std::string known;
  for (const Architecture& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
  throw UnknownArchitecture(
      source + ": architectures: " + quote(asked) + " is not supported (known: " + known + ")", asked);
}

DecoderSpec read_with(const Architecture& architecture, JsonFields& fields) {
  DecoderSpec spec = architecture.read(fields);
  bound_experts(fields, spec, "num_hidden_layers");
  spec.architecture = architecture.name;
  return spec;
}

const Architecture& architecture_named(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  check(found != kArchitectures.end(), "the architecture is one of the table");
  return *found;
}

double similarity(std::string_view a, std::string_view b) {
  const auto longest = static_cast<double>(std::max({a.size(), b.size(), size_t{1}}));
  return 1.0 - static_cast<double>(distance(a, b)) / longest;
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
    DecoderSpec spec = read_with(a, fields);
    fields.finish();
    return spec;
  }
  refuse(asked, source);
}

ArchitectureReading read_as(const Json& config, const std::string& source, std::string_view architecture) {
  JsonFields fields(config, source);
  ArchitectureReading reading;
  reading.architecture = architecture;
  reading.spec = read_with(architecture_named(architecture), fields);
  reading.faults = fields.faults();
  reading.unread = fields.unread();
  return reading;
}

double name_similarity(std::string_view asked, std::string_view architecture) {
  constexpr size_t kLongest = 200;  // the comparison takes the product of the lengths
  const Architecture& known = architecture_named(architecture);
  const std::string_view name = asked.substr(0, kLongest);
  return std::max(similarity(name, known.name), similarity(name, known.model_type));
}

}  // namespace octet
