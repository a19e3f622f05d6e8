// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/models/decoder_spec.h"

namespace octet {

std::string WeightNames::layer_name(int64_t index) const {
  std::string name = layer;
  if (const auto place = name.find("{i}"); place != std::string::npos)
    name.replace(place, 3, std::to_string(index));
  return name;
}

WeightNames WeightNames::with_prefix(std::string_view from, std::string_view to) const {
  WeightNames names = *this;
  for (std::string* name : {&names.embed_tokens, &names.embed_positions, &names.projections.project_in,
                            &names.projections.project_out, &names.layer, &names.norm, &names.lm_head}) {
    if (name->starts_with(from)) name->replace(0, from.size(), to);
  }
  return names;
}

void DecoderSpec::choose_names(const std::function<bool(const std::string&)>& has_tensor) {
  const auto found = [&](const WeightNames& spelling) {
    return has_tensor(spelling.embed_tokens + ".weight");
  };
  if (!found(names)) {
    const auto other = std::ranges::find_if(other_names, found);
    if (other != other_names.end()) names = *other;
  }
  if (!moe || moe->names.other_module.empty()) return;
  const auto has_mixture = [&](const std::string& module) {
    return has_tensor(names.layer_name(0) + "." + module + ".gate.weight");
  };
  if (!has_mixture(moe->names.module) && has_mixture(moe->names.other_module))
    moe->names.module = moe->names.other_module;
}

}  // namespace octet
