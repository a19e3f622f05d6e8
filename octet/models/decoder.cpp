// SPDX-License-Identifier: Apache-2.0
#include "octet/models/decoder.h"

#include <algorithm>

namespace octet {
namespace {

AttentionLayerSpec attention_spec(const DecoderSpec& spec, int64_t index) {
  return {
      .name = spec.names.layer_name(index) + "." + spec.names.self_attn,
      .names = spec.names.attention,
      .hidden_size = spec.hidden_size,
      .num_attention_heads = spec.num_attention_heads,
      .num_key_value_heads = spec.num_key_value_heads,
      .head_dim = spec.head_dim,
      .qkv_bias = spec.qkv_bias,
      .output_bias = spec.attention_output_bias,
      .qk_norm = spec.qk_norm,
      .rms_norm_eps = spec.rms_norm_eps,
      .sliding_window = spec.sliding_windows.empty() ? 0 : spec.sliding_windows[static_cast<size_t>(index)],
      .rotate = spec.positions == PositionKind::kRotary,
      .rope_style = spec.rope.style};
}

std::unique_ptr<SelfAttention> make_attention(const LayerContext& context, const DecoderSpec& spec,
                                              int64_t index) {
  const AttentionLayerSpec layer = attention_spec(spec, index);
  if (spec.latent) return std::make_unique<LatentAttention>(context, layer, *spec.latent);
  return std::make_unique<AttentionLayer>(context, layer);
}

std::unique_ptr<FeedForward> make_feed_forward(const LayerContext& context, const DecoderSpec& spec,
                                               int64_t index) {
  if (spec.is_sparse(index))
    return std::make_unique<Moe>(context, *spec.moe, spec.names.layer_name(index), spec.hidden_size);
  const std::string& part = spec.names.mlp;
  const MlpSpec mlp = {.name = spec.names.layer_name(index) + (part.empty() ? "" : "." + part),
                       .names = spec.names.feed_forward,
                       .hidden_size = spec.hidden_size,
                       .intermediate_size = spec.intermediate_size,
                       .bias = spec.mlp_bias};
  if (spec.mlp == MlpKind::kRelu) return std::make_unique<PlainMlp>(context, mlp);
  return std::make_unique<Mlp>(context, mlp);
}

std::unique_ptr<Positions> make_positions(const LayerContext& context, const DecoderSpec& spec) {
  if (spec.positions == PositionKind::kLearned) {
    return std::make_unique<LearnedPositions>(context,
                                              LearnedPositionsSpec{.name = spec.names.embed_positions,
                                                                   .positions = spec.max_position_embeddings,
                                                                   .offset = spec.position_offset,
                                                                   .hidden_size = spec.hidden_size});
  }
  if (spec.rope.temperature_beta > 0) return std::make_unique<TemperedRotaryPositions>(spec.rope);
  return std::make_unique<RotaryPositions>(spec.rope);
}

VocabularySpec vocabulary_spec(const DecoderSpec& spec) {
  return {.embedding = spec.names.embed_tokens,
          .lm_head = spec.names.lm_head,
          .vocab_size = spec.vocab_size,
          .hidden_size = spec.embedding_size > 0 ? spec.embedding_size : spec.hidden_size,
          .tied = spec.tie_word_embeddings};
}

std::unique_ptr<Vocabulary> make_vocabulary(const LayerContext& context, const DecoderSpec& spec) {
  VocabularySpec tables = vocabulary_spec(spec);
  if (tables.hidden_size == spec.hidden_size) return std::make_unique<Vocabulary>(context, std::move(tables));
  return std::make_unique<ProjectedVocabulary>(context, std::move(tables), spec.names.projections,
                                               spec.hidden_size);
}

std::unique_ptr<DecoderLayer> make_layer(const LayerContext& context, const DecoderSpec& spec,
                                         int64_t index) {
  if (spec.norm_place == NormPlace::kAfter) return std::make_unique<PostNormLayer>(context, spec, index);
  return std::make_unique<PreNormLayer>(context, spec, index);
}

void append(std::vector<Parameter>& all, std::vector<Parameter> more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

}  // namespace

DecoderLayer::DecoderLayer(const LayerContext& context, const DecoderSpec& spec, int64_t index)
    : context_(context),
      hidden_size_(spec.hidden_size),
      input_layernorm_(make_norm(spec.norm, context,
                                 spec.names.layer_name(index) + "." + spec.names.input_layernorm,
                                 spec.hidden_size, spec.rms_norm_eps)),
      self_attn_(make_attention(context, spec, index)),
      post_attention_layernorm_(make_norm(
          spec.norm, context, spec.names.layer_name(index) + "." + spec.names.post_attention_layernorm,
          spec.hidden_size, spec.rms_norm_eps)),
      mlp_(make_feed_forward(context, spec, index)) {}

void DecoderLayer::declare(std::vector<Parameter>& parameters) {
  input_layernorm_->declare(parameters);
  self_attn_->declare(parameters);
  post_attention_layernorm_->declare(parameters);
  mlp_->declare(parameters);
}

TensorView DecoderLayer::scratch(const Batch& batch, Arena& arena) const {
  return arena.tensor(DType::kF32, Shape{batch.tokens(), hidden_size_});
}

void DecoderLayer::add_of_all_ranks(TensorView update, TensorView hidden) const {
  context_.communicator.all_reduce_sum(
      {update.row<float>(0), static_cast<size_t>(update.rows() * update.cols())});
  context_.backend.add(update, hidden);
}

int64_t DecoderLayer::scratch_bytes(int64_t tokens) const {
  return 2 * (tokens * hidden_size_ * kFloatBytes + kAlignmentSlack) +
         std::max(self_attn_->scratch_bytes(tokens), mlp_->scratch_bytes(tokens));
}

void PreNormLayer::forward(TensorView hidden, const Batch& batch, const RopeAngles& angles,
                           const KvView& cache, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView normed = scratch(batch, arena);
  const TensorView update = scratch(batch, arena);
  input_layernorm_->forward(hidden, normed);
  self_attn_->forward(normed, batch, angles, cache, update, arena);
  add_of_all_ranks(update, hidden);
  post_attention_layernorm_->forward(hidden, normed);
  mlp_->forward(normed, update, arena);
  add_of_all_ranks(update, hidden);
}

void PostNormLayer::forward(TensorView hidden, const Batch& batch, const RopeAngles& angles,
                            const KvView& cache, Arena& arena) const {
  const ArenaScope scope(arena);
  const TensorView update = scratch(batch, arena);
  self_attn_->forward(hidden, batch, angles, cache, update, arena);
  add_of_all_ranks(update, hidden);
  input_layernorm_->forward(hidden, hidden);
  mlp_->forward(hidden, update, arena);
  add_of_all_ranks(update, hidden);
  post_attention_layernorm_->forward(hidden, hidden);
}

Decoder::Decoder(const LayerContext& context, DecoderSpec spec)
    : context_(context),
      spec_(std::move(spec)),
      positions_(make_positions(context, spec_)),
      vocabulary_(make_vocabulary(context, spec_)),
      norm_(make_norm(spec_.final_norm, context, spec_.names.norm, spec_.hidden_size, spec_.rms_norm_eps)) {
  for (int64_t i = 0; i < spec_.num_hidden_layers; ++i) layers_.push_back(make_layer(context, spec_, i));
}

std::vector<Parameter> Decoder::parameters() {
  std::vector<Parameter> all = embedding_parameters();
  for (int64_t i = 0; i < spec_.num_hidden_layers; ++i) append(all, layer_parameters(i));
  append(all, head_parameters());
  return all;
}

std::vector<Parameter> Decoder::embedding_parameters() {
  std::vector<Parameter> parameters;
  vocabulary_->declare_embedding(parameters);
  positions_->declare(parameters);
  return parameters;
}

std::vector<Parameter> Decoder::layer_parameters(int64_t layer) {
  std::vector<Parameter> parameters;
  layers_[static_cast<size_t>(layer)]->declare(parameters);
  return parameters;
}

std::vector<Parameter> Decoder::head_parameters() {
  std::vector<Parameter> parameters;
  norm_->declare(parameters);
  vocabulary_->declare_lm_head(parameters);
  return parameters;
}

TensorView Decoder::forward(const Batch& batch, std::span<const KvView> caches, Arena& arena) const {
  const TensorView hidden = arena.tensor(DType::kF32, Shape{batch.tokens(), spec_.hidden_size});
  const ArenaScope scope(arena);
  embed(batch.token_ids, batch.positions, hidden, arena);
  const RopeAngles angles = positions_->angles(batch.positions, arena);
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i]->forward(hidden, batch, angles, caches[i], arena);
  final_norm(hidden);
  return hidden;
}

void Decoder::embed(std::span<const int32_t> ids, std::span<const int32_t> positions, TensorView hidden,
                    Arena& arena) const {
  vocabulary_->embed(ids, hidden, arena);
  positions_->add_to(hidden, positions, arena);
}

void Decoder::forward_layer(int64_t layer, TensorView hidden, const Batch& batch, const KvView& cache,
                            Arena& arena) const {
  const ArenaScope scope(arena);
  const RopeAngles angles = positions_->angles(batch.positions, arena);
  layers_[static_cast<size_t>(layer)]->forward(hidden, batch, angles, cache, arena);
}

void Decoder::final_norm(TensorView hidden) const {
  norm_->forward(hidden, hidden);
}

int64_t Decoder::key_value_heads() const {
  return head_share(spec_.num_attention_heads, spec_.num_key_value_heads, context_.communicator)
      .key_value_heads.size();
}

void Decoder::logits(ConstTensorView hidden, TensorView logits, Arena& arena) const {
  vocabulary_->logits(hidden, logits, arena);
}

int64_t Decoder::workspace_bytes(int64_t tokens, int64_t logit_rows) const {
  const int64_t hidden = tokens * spec_.hidden_size * kFloatBytes + kAlignmentSlack;
  const int64_t embedding =
      std::max(vocabulary_->embed_scratch_bytes(tokens), positions_->scratch_bytes(tokens));
  const int64_t angles = positions_->angle_bytes(tokens);
  int64_t layer = 0;
  for (const auto& l : layers_) layer = std::max(layer, l->scratch_bytes(tokens));
  const int64_t columns = context_.communicator.rank() == 0 ? spec_.vocab_size : 0;  // of logits
  const int64_t head = logit_rows * (columns + spec_.hidden_size) * kFloatBytes + 2 * kAlignmentSlack +
                       vocabulary_->scratch_bytes(logit_rows);
  return hidden + std::max({embedding, angles + layer, head});
}

}  // namespace octet
