// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/attention.h"

#include <cmath>

namespace octet {
namespace {

LinearSpec qkv_spec(const AttentionLayerSpec& spec, const HeadShare& heads) {
  const int64_t key_rows = spec.num_key_value_heads * spec.head_dim;
  const IndexRange queries = elements_of(heads.query_heads, spec.head_dim);
  const IndexRange keys = elements_of(heads.key_value_heads, spec.head_dim);
  return {
      .name = spec.name + ".qkv_proj",
      .members = {{spec.name + "." + spec.names.q_proj, spec.num_attention_heads * spec.head_dim, queries},
                  {spec.name + "." + spec.names.k_proj, key_rows, keys},
                  {spec.name + "." + spec.names.v_proj, key_rows, keys}},
      .in_features = spec.hidden_size,
      .bias = spec.qkv_bias};
}

LinearSpec output_spec(const AttentionLayerSpec& spec, const HeadShare& heads) {
  return {.name = spec.name + "." + spec.names.o_proj,
          .members = {{spec.name + "." + spec.names.o_proj, spec.hidden_size}},
          .in_features = spec.num_attention_heads * spec.head_dim,
          .bias = spec.output_bias,
          .cols = elements_of(heads.query_heads, spec.head_dim)};
}

/// An RMS norm of each head.
class HeadNorms final : public QueryKeyStep {
 public:
  HeadNorms(const LayerContext& context, const AttentionLayerSpec& spec)
      : q_norm_(context, spec.name + "." + spec.names.q_norm, spec.head_dim, spec.rms_norm_eps),
        k_norm_(context, spec.name + "." + spec.names.k_norm, spec.head_dim, spec.rms_norm_eps) {}

  void declare(std::vector<Parameter>& parameters) override {
    q_norm_.declare(parameters);
    k_norm_.declare(parameters);
  }
  void apply(TensorView q, TensorView k, const RopeAngles& /*angles*/) const override {
    q_norm_.forward(q, q);
    k_norm_.forward(k, k);
  }

 private:
  RmsNorm q_norm_;
  RmsNorm k_norm_;
};

class Rotation final : public QueryKeyStep {
 public:
  Rotation(const LayerContext& context, const AttentionLayerSpec& spec)
      : context_(context), head_dim_(spec.head_dim), style_(spec.rope_style) {}

  void apply(TensorView q, TensorView k, const RopeAngles& angles) const override {
    context_.backend.rope(q, head_dim_, angles.query_cos, angles.query_sin, style_);
    context_.backend.rope(k, head_dim_, angles.key_cos, angles.key_sin, style_);
  }

 private:
  LayerContext context_;
  int64_t head_dim_;
  RopeStyle style_;
};

}  // namespace

AttentionLayer::AttentionLayer(const LayerContext& context, const AttentionLayerSpec& spec)
    : context_(context),
      spec_(spec),
      heads_(head_share(spec.num_attention_heads, spec.num_key_value_heads, context.communicator)),
      qkv_proj_(context, qkv_spec(spec, heads_)),
      o_proj_(context, output_spec(spec, heads_)) {
  if (spec.qk_norm) steps_.push_back(std::make_unique<HeadNorms>(context, spec));
  if (spec.rotate) steps_.push_back(std::make_unique<Rotation>(context, spec));
}

void AttentionLayer::declare(std::vector<Parameter>& parameters) {
  qkv_proj_.declare(parameters);
  o_proj_.declare(parameters);
  for (const auto& step : steps_) step->declare(parameters);
}

void AttentionLayer::forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles,
                             const KvView& cache, TensorView y, Arena& arena) const {
  const ArenaScope scope(arena);
  Backend& backend = context_.backend;
  const int64_t tokens = batch.tokens();
  const int64_t query_cols = o_proj_.in_features();
  const int64_t key_cols = heads_.key_value_heads.size() * spec_.head_dim;

  const TensorView qkv = arena.tensor(DType::kF32, Shape{tokens, query_cols + 2 * key_cols});
  qkv_proj_.forward(x, qkv, arena);
  const TensorView q = columns_of(qkv, 0, query_cols);                    // [T, Hq D]
  const TensorView k = columns_of(qkv, query_cols, key_cols);             // [T, Hk D]
  const TensorView v = columns_of(qkv, query_cols + key_cols, key_cols);  // [T, Hk D]
  for (const auto& step : steps_) step->apply(q, k, angles);
  backend.kv_store(k, v, batch.slots, cache);

  const TensorView attended = arena.tensor(DType::kF32, Shape{tokens, query_cols});
  const AttentionSpec attention{.query_heads = heads_.query_heads.size(),
                                .scale = 1.0F / std::sqrt(static_cast<float>(spec_.head_dim)),
                                .sliding_window = spec_.sliding_window};
  backend.attention(q, cache, batch.layout, attention, attended);
  o_proj_.forward(attended, y, arena);
}

int64_t AttentionLayer::scratch_bytes(int64_t tokens) const {
  const int64_t floats = qkv_proj_.out_features() + o_proj_.in_features();
  return tokens * floats * kFloatBytes + 2 * kAlignmentSlack + qkv_proj_.scratch_bytes(tokens) +
         o_proj_.scratch_bytes(tokens);
}

}  // namespace octet
