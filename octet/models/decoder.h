// SPDX-License-Identifier: Apache-2.0
/// The one decoder that runs every architecture: embedding, layers, norm, head, from a DecoderSpec.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "octet/layers/attention.h"
#include "octet/layers/embedding.h"
#include "octet/layers/norm.h"
#include "octet/layers/positions.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// One transformer layer: the parts, which its two kinds put in order.
class DecoderLayer {
 public:
  DecoderLayer(const LayerContext& context, const DecoderSpec& spec, int64_t index);
  virtual ~DecoderLayer() = default;

  void declare(std::vector<Parameter>& parameters);
  /// hidden [T, H] float32, in place.
  virtual void forward(TensorView hidden, const Batch& batch, const RopeAngles& angles, const KvView& cache,
                       Arena& arena) const = 0;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const;

 protected:
  [[nodiscard]] TensorView scratch(const Batch& batch, Arena& arena) const;  // [T, H]
  /// hidden += the sum of the ranks' updates.
  void add_of_all_ranks(TensorView update, TensorView hidden) const;

  LayerContext context_;
  int64_t hidden_size_;
  std::unique_ptr<Norm> input_layernorm_;
  std::unique_ptr<SelfAttention> self_attn_;
  std::unique_ptr<Norm> post_attention_layernorm_;
  std::unique_ptr<FeedForward> mlp_;
};

/// h += attention(norm(h)); h += mlp(norm(h)).
class PreNormLayer final : public DecoderLayer {
 public:
  using DecoderLayer::DecoderLayer;
  void forward(TensorView hidden, const Batch& batch, const RopeAngles& angles, const KvView& cache,
               Arena& arena) const override;
};

/// h = norm(h + attention(h)); h = norm(h + mlp(h)).
class PostNormLayer final : public DecoderLayer {
 public:
  using DecoderLayer::DecoderLayer;
  void forward(TensorView hidden, const Batch& batch, const RopeAngles& angles, const KvView& cache,
               Arena& arena) const override;
};

/// Holds its layers; the weights come with loading. Of a model that is cut over several ranks it holds this
/// rank's part, and all ranks take the same steps. The steps are const and keep no state: the cache and the
/// arena are the caller's.
class Decoder {
 public:
  /// backend and quant_spec of the context must outlive it.
  Decoder(const LayerContext& context, DecoderSpec spec);

  [[nodiscard]] const DecoderSpec& spec() const { return spec_; }
  [[nodiscard]] const LayerContext& context() const { return context_; }

  /// All parameters; or those of the embedding, of one layer, of final norm and head.
  [[nodiscard]] std::vector<Parameter> parameters();
  [[nodiscard]] std::vector<Parameter> embedding_parameters();
  [[nodiscard]] std::vector<Parameter> layer_parameters(int64_t layer);
  [[nodiscard]] std::vector<Parameter> head_parameters();

  /// The normalized hidden states [T, H] of a step, in the arena. `caches` has one view per layer.
  [[nodiscard]] TensorView forward(const Batch& batch, std::span<const KvView> caches, Arena& arena) const;

  /// The same in pieces, for a model that passes through memory layer by layer.
  void embed(std::span<const int32_t> ids, std::span<const int32_t> positions, TensorView hidden,
             Arena& arena) const;
  void forward_layer(int64_t layer, TensorView hidden, const Batch& batch, const KvView& cache,
                     Arena& arena) const;
  void final_norm(TensorView hidden) const;

  /// Heads whose keys and values this rank holds.
  [[nodiscard]] int64_t key_value_heads() const;

  /// hidden [L, H] (rows of what `forward` returned) -> logits [L, V], on rank 0; other ranks' logits may be
  /// an empty view.
  void logits(ConstTensorView hidden, TensorView logits, Arena& arena) const;

  /// Arena bytes that a step of `tokens` tokens, of which `logit_rows` get logits in the same arena, needs at
  /// most.
  [[nodiscard]] int64_t workspace_bytes(int64_t tokens, int64_t logit_rows) const;

 private:
  LayerContext context_;
  DecoderSpec spec_;
  std::unique_ptr<Positions> positions_;
  std::unique_ptr<Vocabulary> vocabulary_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  std::unique_ptr<Norm> norm_;
};

}  // namespace octet
