// SPDX-License-Identifier: Apache-2.0
// Mixtral 8x7B and 8x22B: Mistral's attention, every layer a mixture of large experts.
#include "octet/models/architectures.h"
#include "octet/models/config.h"
#include "octet/models/moe_config.h"

namespace octet {

DecoderSpec read_mixtral(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 131072, .rms_norm_eps = 1e-5});
  const int64_t window = fields.integer("sliding_window", 0, 0, int64_t{1} << 30);
  spec.sliding_windows.assign(static_cast<size_t>(spec.num_hidden_layers), window);
  spec.moe = read_moe(fields, {.num_experts = 8,
                               .num_experts_per_tok = 2,
                               .moe_intermediate_size = spec.intermediate_size,
                               .norm_topk_prob = true});
  spec.moe->intermediate_size = spec.intermediate_size;
  spec.moe->router.normalize = true;
  spec.moe->names.module = "block_sparse_moe";
  spec.moe->names.gate_proj = "w1";
  spec.moe->names.up_proj = "w3";
  spec.moe->names.down_proj = "w2";
  return spec;
}

}  // namespace octet
