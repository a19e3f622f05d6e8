// SPDX-License-Identifier: Apache-2.0
// The mixtures of experts of the Qwen family: Qwen1.5-MoE and Qwen2-MoE (a shared expert with a gate of its
// own), Qwen3-MoE.
#include "octet/models/architectures.h"
#include "octet/models/config.h"
#include "octet/models/config_limits.h"
#include "octet/models/moe_config.h"

namespace octet {

DecoderSpec read_qwen2_moe(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  spec.qkv_bias = fields.boolean("qkv_bias", true);
  spec.sliding_windows = read_sliding_windows(fields, spec.num_hidden_layers, WindowedLayers::kEverySecond);
  spec.moe = read_moe(
      fields,
      {.num_experts = 60, .num_experts_per_tok = 4, .moe_intermediate_size = 1408, .norm_topk_prob = false});
  spec.moe->shared_intermediate_size = fields.integer("shared_expert_intermediate_size", 5632, 1, kMaxSize);
  spec.moe->shared_gated = true;
  spec.sparse_layers = read_sparse_steps(fields, spec.num_hidden_layers);
  return spec;
}

DecoderSpec read_qwen3_moe(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  spec.qkv_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.qkv_bias;
  spec.qk_norm = true;
  spec.sliding_windows = read_sliding_windows(fields, spec.num_hidden_layers, WindowedLayers::kAll);
  spec.moe = read_moe(
      fields,
      {.num_experts = 128, .num_experts_per_tok = 8, .moe_intermediate_size = 768, .norm_topk_prob = false});
  spec.sparse_layers = read_sparse_steps(fields, spec.num_hidden_layers);
  return spec;
}

}  // namespace octet
