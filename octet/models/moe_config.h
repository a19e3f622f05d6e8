// SPDX-License-Identifier: Apache-2.0
/// The fields of config.json that mixtures of experts share, under each of their names.
#pragma once

#include <string_view>
#include <vector>

#include "octet/base/json.h"
#include "octet/layers/moe.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// What an architecture has where its config.json is silent; 0: the field must be there.
struct MoeDefaults {
  int64_t num_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  bool norm_topk_prob = false;
};

/// Numbers of experts and their size: `num_experts`, `num_local_experts` or `n_routed_experts`;
/// `num_experts_per_tok`; `moe_intermediate_size`; `norm_topk_prob`. Faults go to `fields`.
[[nodiscard]] MoeSpec read_moe(JsonFields& fields, const MoeDefaults& defaults);

/// Which layers are mixtures: every `decoder_sparse_step`-th, those in `mlp_only_layers` excepted.
[[nodiscard]] std::vector<bool> read_sparse_steps(JsonFields& fields, int64_t layers);

/// Each expert is an object of its layer, made before a weight is looked at: a fault of the field `layers`
/// where there would be far more than any published model has.
void bound_experts(JsonFields& fields, const DecoderSpec& spec, std::string_view layers);

}  // namespace octet
