// SPDX-License-Identifier: Apache-2.0
#include "octet/models/decoder.h"

#include <algorithm>

namespace octet {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);
constexpr int64_t kAlignmentSlack = 128;

AttentionLayerSpec attention_spec(const DecoderSpec& spec, int64_t index) {
  return {
      .name = spec.names.layer_name(index) + ".self_attn",
      .hidden_size = spec.hidden_size,
      .num_attention_heads = spec.num_attention_heads,
      .num_key_value_heads = spec.num_key_value_heads,
      .head_dim = spec.head_dim,
      .qkv_bias = spec.qkv_bias,
      .output_bias = spec.attention_output_bias,
      .qk_norm = spec.qk_norm,
      .rms_norm_eps = spec.rms_norm_eps,
      .sliding_window = spec.sliding_windows.empty() ? 0 : spec.sliding_windows[static_cast<size_t>(index)],
      .rope_style = spec.rope.style};
}

MlpSpec mlp_spec(const DecoderSpec& spec, int64_t index) {
  return {.name = spec.names.layer_name(index) + ".mlp",
          .hidden_size = spec.hidden_size,
          .intermediate_size = spec.intermediate_size,
          .bias = spec.mlp_bias};
}

VocabularySpec vocabulary_spec(const DecoderSpec& spec) {
  return {.embedding = spec.names.embed_tokens,
          .lm_head = spec.names.lm_head,
          .vocab_size = spec.vocab_size,
          .hidden_size = spec.hidden_size,
          .tied = spec.tie_word_embeddings};
}

void append(std::vector<Parameter>& all, std::vector<Parameter> more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

std::string WeightNames::layer_name(int64_t index) const {
  std::string name = layer;
  if (const auto place = name.find("{i}"); place != std::string::npos)
    name.replace(place, 3, std::to_string(index));
  return name;
}

DecoderLayer::DecoderLayer(const LayerContext& context, const DecoderSpec& spec, int64_t index)
    : context_(context),
      hidden_size_(spec.hidden_size),
      input_layernorm_(context, spec.names.layer_name(index) + ".input_layernorm", spec.hidden_size,
                       spec.rms_norm_eps),
      self_attn_(context, attention_spec(spec, index)),
      post_attention_layernorm_(context, spec.names.layer_name(index) + ".post_attention_layernorm",
                                spec.hidden_size, spec.rms_norm_eps),
      mlp_(context, mlp_spec(spec, index)) {}

void DecoderLayer::declare(std::vector<Parameter>& parameters) {
  input_layernorm_.declare(parameters);
  self_attn_.declare(parameters);
  post_attention_layernorm_.declare(parameters);
  mlp_.declare(parameters);
}

void DecoderLayer::forward(TensorView hidden, const Batch& batch, const RopeAngles& angles,
                           const KvView& cache, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView normed = arena.tensor(DType::kF32, Shape{batch.tokens(), hidden_size_});
  const TensorView update = arena.tensor(DType::kF32, Shape{batch.tokens(), hidden_size_});
  input_layernorm_.forward(hidden, normed);
  self_attn_.forward(normed, batch, angles, cache, update, arena);
  context_.backend.add(update, hidden);
  post_attention_layernorm_.forward(hidden, normed);
  mlp_.forward(normed, update, arena);
  context_.backend.add(update, hidden);
}

int64_t DecoderLayer::scratch_bytes(int64_t tokens) const {
  return 2 * (tokens * hidden_size_ * kFloatBytes + kAlignmentSlack) +
         std::max(self_attn_.scratch_bytes(tokens), mlp_.scratch_bytes(tokens));
}

Decoder::Decoder(const LayerContext& context, DecoderSpec spec)
    : context_(context),
      spec_(std::move(spec)),
      rotary_(spec_.rope),
      vocabulary_(context, vocabulary_spec(spec_)),
      norm_(context, spec_.names.norm, spec_.hidden_size, spec_.rms_norm_eps) {
  for (int64_t i = 0; i < spec_.num_hidden_layers; ++i) {
    layers_.push_back(std::make_unique<DecoderLayer>(context, spec_, i));
  }
}

std::vector<Parameter> Decoder::parameters() {
  std::vector<Parameter> all = embedding_parameters();
  for (int64_t i = 0; i < spec_.num_hidden_layers; ++i) append(all, layer_parameters(i));
  append(all, head_parameters());
  return all;
}

std::vector<Parameter> Decoder::embedding_parameters() {
  std::vector<Parameter> parameters;
  vocabulary_.declare_embedding(parameters);
  return parameters;
}

std::vector<Parameter> Decoder::layer_parameters(int64_t layer) {
  std::vector<Parameter> parameters;
  layers_[static_cast<size_t>(layer)]->declare(parameters);
  return parameters;
}

std::vector<Parameter> Decoder::head_parameters() {
  std::vector<Parameter> parameters;
  norm_.declare(parameters);
  vocabulary_.declare_lm_head(parameters);
  return parameters;
}

RopeAngles Decoder::angles(std::span<const int32_t> positions, Arena& arena) const {
  const Shape shape{static_cast<int64_t>(positions.size()), spec_.rope.rotary_dim / 2};
  const TensorView cos = arena.tensor(DType::kF32, shape);
  const TensorView sin = arena.tensor(DType::kF32, shape);
  rotary_.angles(positions, cos, sin);
  return {.cos = cos, .sin = sin};
}

TensorView Decoder::forward(const Batch& batch, std::span<const KvView> caches, Arena& arena) const {
  const TensorView hidden = arena.tensor(DType::kF32, Shape{batch.tokens(), spec_.hidden_size});
  const ArenaScope scope(arena);
  embed(batch.token_ids, hidden);
  const RopeAngles rope = angles(batch.positions, arena);
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i]->forward(hidden, batch, rope, caches[i], arena);
  final_norm(hidden);
  return hidden;
}

void Decoder::embed(std::span<const int32_t> ids, TensorView hidden) const {
  vocabulary_.embed(ids, hidden);
}

void Decoder::forward_layer(int64_t layer, TensorView hidden, const Batch& batch, const KvView& cache,
                            Arena& arena) const {
  const ArenaScope scope(arena);
  const RopeAngles rope = angles(batch.positions, arena);
  layers_[static_cast<size_t>(layer)]->forward(hidden, batch, rope, cache, arena);
}

void Decoder::final_norm(TensorView hidden) const {
  norm_.forward(hidden, hidden);
}

void Decoder::logits(ConstTensorView hidden, TensorView logits, Arena& arena) const {
  vocabulary_.logits(hidden, logits, arena);
}

int64_t Decoder::workspace_bytes(int64_t tokens, int64_t logit_rows) const {
  const int64_t hidden = tokens * spec_.hidden_size * kFloatBytes + kAlignmentSlack;
  const int64_t rope = tokens * spec_.rope.rotary_dim * kFloatBytes + 2 * kAlignmentSlack;
  int64_t layer = 0;
  for (const auto& l : layers_) layer = std::max(layer, l->scratch_bytes(tokens));
  const int64_t head = logit_rows * (spec_.vocab_size + spec_.hidden_size) * kFloatBytes +
                       2 * kAlignmentSlack + vocabulary_.scratch_bytes(logit_rows);
  return hidden + std::max(rope + layer, head);
}

}  // namespace octet
