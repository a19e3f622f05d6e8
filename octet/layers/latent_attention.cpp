// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/latent_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "octet/layers/shard.h"

namespace octet {
namespace {

LinearSpec linear_spec(const std::string& name, int64_t out, int64_t in, bool bias = false) {
  return {.name = name, .members = {{name, out}}, .in_features = in, .bias = bias};
}

/// The same for the rows of some heads.
LinearSpec head_spec(const std::string& name, int64_t heads, int64_t head_rows, int64_t in, IndexRange mine) {
  return {
      .name = name, .members = {{name, heads * head_rows, elements_of(mine, head_rows)}}, .in_features = in};
}

LinearSpec q_spec(const AttentionLayerSpec& layer, const LatentAttentionSpec& spec, IndexRange mine) {
  const bool low = spec.q_lora_rank > 0;
  return head_spec(layer.name + (low ? ".q_b_proj" : ".q_proj"), layer.num_attention_heads,
                   spec.qk_head_dim(), low ? spec.q_lora_rank : layer.hidden_size, mine);
}

LinearSpec o_spec(const AttentionLayerSpec& layer, const LatentAttentionSpec& spec, IndexRange mine) {
  LinearSpec linear = linear_spec(layer.name + ".o_proj", layer.hidden_size,
                                  layer.num_attention_heads * spec.v_head_dim, layer.output_bias);
  linear.cols = elements_of(mine, spec.v_head_dim);
  return linear;
}

/// Each head has keys and values of its own behind the vector that all share.
IndexRange heads_of_rank(const AttentionLayerSpec& layer, const Communicator& communicator) {
  return head_share(layer.num_attention_heads, layer.num_attention_heads, communicator).query_heads;
}

}  // namespace

LatentAttention::LatentAttention(const LayerContext& context, const AttentionLayerSpec& layer,
                                 const LatentAttentionSpec& spec)
    : context_(context),
      layer_(layer),
      spec_(spec),
      mine_(heads_of_rank(layer, context.communicator)),
      q_proj_(context, q_spec(layer, spec, mine_)),
      kv_a_proj_(context, linear_spec(layer.name + ".kv_a_proj_with_mqa", spec.cached_dim(),
                                      layer.hidden_size, layer.qkv_bias)),
      kv_a_norm_(context, layer.name + ".kv_a_layernorm", spec.kv_lora_rank, spec.rms_norm_eps),
      kv_b_proj_(context, head_spec(layer.name + ".kv_b_proj", layer.num_attention_heads,
                                    spec.qk_nope_head_dim + spec.v_head_dim, spec.kv_lora_rank, mine_)),
      o_proj_(context, o_spec(layer, spec, mine_)) {
  if (spec.q_lora_rank == 0) return;
  q_a_proj_ = std::make_unique<Linear>(
      context, linear_spec(layer.name + ".q_a_proj", spec.q_lora_rank, layer.hidden_size, layer.qkv_bias));
  q_a_norm_ =
      std::make_unique<RmsNorm>(context, layer.name + ".q_a_layernorm", spec.q_lora_rank, spec.rms_norm_eps);
}

void LatentAttention::declare(std::vector<Parameter>& parameters) {
  if (q_a_proj_) {
    q_a_proj_->declare(parameters);
    q_a_norm_->declare(parameters);
  }
  q_proj_.declare(parameters);
  kv_a_proj_.declare(parameters);
  kv_a_norm_.declare(parameters);
  kv_b_proj_.declare(parameters);
  o_proj_.declare(parameters);
}

HeadMatrix LatentAttention::keys_of(int64_t x_stride) const {
  return {.w = kv_b_proj_.weight().matrix.view(),
          .heads = heads(),
          .stride = spec_.qk_nope_head_dim + spec_.v_head_dim,
          .first = 0,
          .count = spec_.qk_nope_head_dim,
          .x_stride = x_stride,
          .y_stride = spec_.cached_dim()};
}

HeadMatrix LatentAttention::values_of(int64_t x_stride) const {
  return {.w = kv_b_proj_.weight().matrix.view(),
          .heads = heads(),
          .stride = spec_.qk_nope_head_dim + spec_.v_head_dim,
          .first = spec_.qk_nope_head_dim,
          .count = spec_.v_head_dim,
          .x_stride = x_stride,
          .y_stride = spec_.v_head_dim};
}

void LatentAttention::project_queries(ConstTensorView x, TensorView q, Arena& arena) const {
  if (!q_a_proj_) return q_proj_.forward(x, q, arena);
  const ArenaScope scope(arena);
  const TensorView low = arena.tensor(DType::kF32, Shape{x.rows(), spec_.q_lora_rank});
  q_a_proj_->forward(x, low, arena);
  q_a_norm_->forward(low, low);
  q_proj_.forward(low, q, arena);
}

void LatentAttention::forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles,
                              const KvView& cache, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  Backend& backend = context_.backend;
  const int64_t tokens = batch.tokens();
  const int64_t head = spec_.qk_head_dim();
  const int64_t rope = spec_.qk_rope_head_dim;
  const TensorView q = arena.tensor(DType::kF32, Shape{tokens, heads() * head});
  project_queries(x, q, arena);
  // The rotated columns are the last of each head: seen from the first of them on, they come first.
  const TensorView q_rope = columns_of(q, spec_.qk_nope_head_dim, heads() * head);
  backend.rope(q_rope, head, angles.query_cos, angles.query_sin, layer_.rope_style);

  const TensorView latent = arena.tensor(DType::kF32, Shape{tokens, spec_.cached_dim()});
  kv_a_proj_.forward(x, latent, arena);
  const TensorView compressed = columns_of(latent, 0, spec_.kv_lora_rank);
  kv_a_norm_.forward(compressed, compressed);
  backend.rope(columns_of(latent, spec_.kv_lora_rank, rope), rope, angles.key_cos, angles.key_sin,
               layer_.rope_style);
  backend.kv_store(latent, latent, batch.slots, cache);

  const TensorView absorbed = arena.tensor(DType::kF32, Shape{tokens, heads() * spec_.cached_dim()});
  backend.gemm_heads_transposed(q, context_.precision(), keys_of(head), absorbed);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads(); ++h) {
      std::memcpy(absorbed.row<float>(t) + h * spec_.cached_dim() + spec_.kv_lora_rank,
                  q.row<float>(t) + h * head + spec_.qk_nope_head_dim,
                  static_cast<size_t>(rope * kFloatBytes));
    }
  }
  const TensorView attended = arena.tensor(DType::kF32, Shape{tokens, heads() * spec_.cached_dim()});
  const AttentionSpec attention{.query_heads = heads(),
                                .scale = spec_.scale_factor / std::sqrt(static_cast<float>(head)),
                                .sliding_window = layer_.sliding_window};
  backend.attention(absorbed, cache, batch.layout, attention, attended);
  const TensorView values = arena.tensor(DType::kF32, Shape{tokens, heads() * spec_.v_head_dim});
  backend.gemm_heads(attended, context_.precision(), values_of(spec_.cached_dim()), values);
  o_proj_.forward(values, y, arena);
}

int64_t LatentAttention::scratch_bytes(int64_t tokens) const {
  const int64_t columns = spec_.q_lora_rank + spec_.cached_dim() +
                          heads() * (spec_.qk_head_dim() + 2 * spec_.cached_dim() + spec_.v_head_dim);
  int64_t inner = std::max(
      {q_proj_.scratch_bytes(tokens), kv_a_proj_.scratch_bytes(tokens), o_proj_.scratch_bytes(tokens)});
  if (q_a_proj_) inner = std::max(inner, q_a_proj_->scratch_bytes(tokens));
  return tokens * columns * kFloatBytes + 6 * kAlignmentSlack + inner;
}

}  // namespace octet
