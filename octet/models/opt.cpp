// SPDX-License-Identifier: Apache-2.0
// OPT (opt-125m and its sisters): learned positions, layer norms with biases, ReLU, a tied head. opt-350m
// normalizes after each sum instead of before, and its tables are narrower than its layers.
#include "octet/models/architectures.h"
#include "octet/models/config.h"

namespace octet {
namespace {

/// Position 0 is row 2 of the table: the two before stood for padding when the model was trained.
constexpr int64_t kPositionOffset = 2;
/// What torch.nn.LayerNorm takes where nothing is said; no config.json says it.
constexpr float kLayerNormEps = 1e-5F;

WeightNames opt_names() {
  WeightNames names;
  names.embed_tokens = "model.decoder.embed_tokens";
  names.embed_positions = "model.decoder.embed_positions";
  names.projections = {.project_in = "model.decoder.project_in", .project_out = "model.decoder.project_out"};
  names.layer = "model.decoder.layers.{i}";
  names.norm = "model.decoder.final_layer_norm";
  names.input_layernorm = "self_attn_layer_norm";
  names.attention.o_proj = "out_proj";
  names.post_attention_layernorm = "final_layer_norm";
  names.mlp = "";
  names.feed_forward = {.gate_proj = "", .up_proj = "fc1", .down_proj = "fc2"};
  return names;
}

void read_norms(JsonFields& fields, DecoderSpec& spec) {
  const bool affine = fields.boolean("layer_norm_elementwise_affine", true);
  const bool before = fields.boolean("do_layer_norm_before", true);
  const bool removed = fields.boolean("_remove_final_layer_norm", false);
  spec.norm = affine ? NormKind::kLayer : NormKind::kLayerPlain;
  spec.norm_place = before ? NormPlace::kBefore : NormPlace::kAfter;
  spec.final_norm = before && !removed ? spec.norm : NormKind::kNone;
  spec.rms_norm_eps = kLayerNormEps;
}

}  // namespace

DecoderSpec read_opt(JsonFields& fields) {
  DecoderSpec spec;
  spec.names = opt_names();
  // As the weights were first published: without the outer module's name.
  spec.other_names = {spec.names.with_prefix("model.decoder.", "decoder.")};
  spec.dtype = read_dtype(fields);
  read_sizes(fields, spec, "ffn_dim");
  read_heads(fields, spec);
  read_token_ids(fields, spec);
  spec.max_position_embeddings = fields.integer("max_position_embeddings", 2048, 1, int64_t{1} << 30);
  spec.embedding_size = fields.integer("word_embed_proj_dim", spec.hidden_size, 1, int64_t{1} << 22);
  spec.tie_word_embeddings = fields.boolean("tie_word_embeddings", true);
  spec.positions = PositionKind::kLearned;
  spec.position_offset = kPositionOffset;
  spec.mlp = MlpKind::kRelu;
  spec.qkv_bias = spec.attention_output_bias = spec.mlp_bias = fields.boolean("enable_bias", true);
  read_norms(fields, spec);
  const std::string activation = fields.string("activation_function", "relu");
  if (activation != "relu") {
    fields.fault("activation_function", "expected \"relu\", found \"" + activation + "\"");
  }
  return spec;
}

}  // namespace octet
