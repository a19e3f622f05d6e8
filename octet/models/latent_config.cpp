// SPDX-License-Identifier: Apache-2.0
#include "octet/models/latent_config.h"

#include <algorithm>

#include "octet/models/config_limits.h"
#include "octet/models/moe_config.h"

namespace octet {
namespace {

constexpr int64_t kMaxHead = 4096;
constexpr int64_t kMaxGroups = int64_t{1} << 16;
// transformers builds the two low-rank norms with its own default, whatever rms_norm_eps says.
constexpr float kLowRankEps = 1e-6F;

/// `mlp_layer_types` (transformers 5) says it layer by layer; before, it was the first layers that are dense,
/// and every `moe_layer_freq`-th of the others that is not.
std::vector<bool> sparse_layers(JsonFields& fields, int64_t layers, int64_t first_dense) {
  std::vector<bool> sparse(static_cast<size_t>(std::max<int64_t>(layers, 0)));
  const int64_t dense = fields.integer("first_k_dense_replace", first_dense, 0, kMaxLayers);
  const int64_t every = fields.integer("moe_layer_freq", 1, 1, kMaxLayers);
  const auto types = fields.strings("mlp_layer_types");
  if (!types.empty() && types.size() != sparse.size()) {
    fields.fault("mlp_layer_types", "expected one entry for each of the " + std::to_string(layers) +
                                        " layers, found " + std::to_string(types.size()));
    return sparse;
  }
  for (size_t i = 0; i < sparse.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    if (!types.empty() && types[i] != "dense" && types[i] != "sparse")
      fields.fault("mlp_layer_types", "expected dense or sparse, found \"" + types[i] + "\"");
    sparse[i] = types.empty() ? layer >= dense && layer % every == 0 : types[i] == "sparse";
  }
  return sparse;
}

void skip_predicting_layers(JsonFields& fields, DecoderSpec& spec) {
  const int64_t further = fields.integer("num_nextn_predict_layers", 1, 0, kMaxLayers);
  for (int64_t i = 0; i < further; ++i)
    spec.skipped_tensors.push_back(spec.names.layer_name(spec.num_hidden_layers + i) + ".*");
}

}  // namespace

void read_latent_attention(JsonFields& fields, DecoderSpec& spec) {
  LatentAttentionSpec latent;
  latent.q_lora_rank = fields.integer("q_lora_rank", 0, 0, kMaxSize);  // null: no low rank
  latent.kv_lora_rank = fields.required_integer("kv_lora_rank", 1, kMaxSize);
  latent.qk_nope_head_dim = fields.required_integer("qk_nope_head_dim", 1, kMaxHead);
  latent.qk_rope_head_dim = fields.required_integer("qk_rope_head_dim", 1, kMaxHead);
  latent.v_head_dim = fields.required_integer("v_head_dim", 1, kMaxHead);
  latent.rms_norm_eps = kLowRankEps;
  latent.scale_factor = static_cast<float>(spec.rope.latent_scale_factor);
  spec.latent = latent;
  spec.qkv_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.qkv_bias;
  spec.rope.style = fields.boolean("rope_interleave", true) ? RopeStyle::kInterleaved : RopeStyle::kHalfSplit;
}

void read_latent_moe(JsonFields& fields, DecoderSpec& spec, const LatentMoeDefaults& defaults) {
  MoeSpec moe = read_moe(fields, {.norm_topk_prob = defaults.norm_topk_prob});
  moe.names.shared = "shared_experts";
  moe.shared_intermediate_size = moe.intermediate_size * fields.integer("n_shared_experts", 0, 0, kMaxGroups);
  moe.router.scaling_factor = static_cast<float>(fields.number("routed_scaling_factor", 1.0, 0.0, 1e6));
  moe.router.groups = fields.integer("n_group", 1, 1, kMaxGroups);
  moe.router.chosen_groups = fields.integer("topk_group", 1, 1, kMaxGroups);
  moe.router.normalize_floor = 1e-20F;
  spec.moe = std::move(moe);
  spec.sparse_layers = sparse_layers(fields, spec.num_hidden_layers, defaults.first_dense_layers);
}

DecoderSpec read_latent_sigmoid_model(JsonFields& fields, const ConfigDefaults& defaults,
                                      int64_t first_dense_layers) {
  DecoderSpec spec = read_common(fields, defaults);
  read_latent_attention(fields, spec);
  read_latent_moe(fields, spec, {.first_dense_layers = first_dense_layers, .norm_topk_prob = true});
  RouterSpec& router = spec.moe->router;
  router.score = RouterScore::kSigmoid;
  router.correction_bias = true;
  router.group_score = GroupScore::kTwoLargest;
  skip_predicting_layers(fields, spec);
  return spec;
}

}  // namespace octet
