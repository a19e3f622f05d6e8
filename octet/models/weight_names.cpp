// SPDX-License-Identifier: Apache-2.0
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

}  // namespace octet
