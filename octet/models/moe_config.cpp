// SPDX-License-Identifier: Apache-2.0
#include "octet/models/moe_config.h"

#include <algorithm>
#include <array>

#include "octet/models/config_limits.h"

namespace octet {
namespace {

int64_t read_size(JsonFields& fields, std::string_view name, int64_t fallback, int64_t max) {
  return fallback > 0 ? fields.integer(name, fallback, 1, max) : fields.required_integer(name, 1, max);
}

/// The three names have stayed in use; a file has one of them.
std::string_view name_of_experts(const JsonFields& fields) {
  constexpr std::array<std::string_view, 3> kNames = {"num_experts", "num_local_experts", "n_routed_experts"};
  const auto* found = std::ranges::find_if(kNames, [&](std::string_view name) { return fields.has(name); });
  return found == kNames.end() ? kNames.front() : *found;
}

}  // namespace

MoeSpec read_moe(JsonFields& fields, const MoeDefaults& defaults) {
  MoeSpec spec;
  const std::string_view name = name_of_experts(fields);
  spec.router.num_experts = read_size(fields, name, defaults.num_experts, kMaxExperts);
  spec.router.experts_per_token =
      read_size(fields, "num_experts_per_tok", defaults.num_experts_per_tok, kMaxExperts);
  if (spec.router.experts_per_token > spec.router.num_experts) {
    fields.fault("num_experts_per_tok", "expected at most " + std::string(name) + " " +
                                            std::to_string(spec.router.num_experts) + ", found " +
                                            std::to_string(spec.router.experts_per_token));
  }
  spec.intermediate_size =
      read_size(fields, "moe_intermediate_size", defaults.moe_intermediate_size, kMaxSize);
  spec.router.normalize = fields.boolean("norm_topk_prob", defaults.norm_topk_prob);
  return spec;
}

std::vector<bool> read_sparse_steps(JsonFields& fields, int64_t layers) {
  const int64_t step = fields.integer("decoder_sparse_step", 1, 1, kMaxLayers);
  std::vector<bool> sparse(static_cast<size_t>(std::max<int64_t>(layers, 0)));
  for (size_t i = 0; i < sparse.size(); ++i) sparse[i] = (static_cast<int64_t>(i) + 1) % step == 0;
  for (const int64_t layer : fields.integers("mlp_only_layers", 0, kMaxLayers)) {
    if (layer < layers) sparse[static_cast<size_t>(layer)] = false;
  }
  return sparse;
}

void bound_experts(JsonFields& fields, const DecoderSpec& spec, std::string_view layers) {
  constexpr int64_t kMaxInAllLayers = int64_t{1} << 16;
  if (!spec.moe || spec.moe->router.num_experts * spec.num_hidden_layers <= kMaxInAllLayers) return;
  fields.fault(layers, "expected at most " + std::to_string(kMaxInAllLayers) +
                           " experts in all layers, found " + std::to_string(spec.num_hidden_layers) +
                           " layers of " + std::to_string(spec.moe->router.num_experts));
}

}  // namespace octet
