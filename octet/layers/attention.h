// SPDX-License-Identifier: Apache-2.0
/// Grouped-query self-attention over the paged cache.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/layers/linear.h"
#include "octet/layers/norm.h"
#include "octet/layers/positions.h"
#include "octet/layers/shard.h"

namespace octet {

/// What a checkpoint calls the parts of attention.
struct AttentionNames {
  std::string q_proj = "q_proj";
  std::string k_proj = "k_proj";
  std::string v_proj = "v_proj";
  std::string o_proj = "o_proj";
  std::string q_norm = "q_norm";
  std::string k_norm = "k_norm";
};

struct AttentionLayerSpec {
  std::string name;  ///< "model.layers.0.self_attn"
  AttentionNames names;
  int64_t hidden_size = 0;
  int64_t num_attention_heads = 0;  // Hq
  int64_t num_key_value_heads = 0;  // Hk
  int64_t head_dim = 0;             // D
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;        ///< an RMS norm of each query and key head, before the rotation (Qwen3)
  float rms_norm_eps = 1e-6F;  ///< of those
  int64_t sliding_window = 0;  ///< 0: none
  bool rotate = true;          ///< false: the positions are in the hidden states already (OPT)
  RopeStyle rope_style = RopeStyle::kHalfSplit;
};

/// Something done to queries and keys between their projection and the cache, in place.
class QueryKeyStep {
 public:
  virtual ~QueryKeyStep() = default;
  virtual void declare(std::vector<Parameter>& /*parameters*/) {}
  /// q [T, Hq D], k [T, Hk D] float32, rows strided.
  virtual void apply(TensorView q, TensorView k, const RopeAngles& angles) const = 0;
};

/// Attention of a decoder layer over the cache, of whatever kind.
class SelfAttention {
 public:
  SelfAttention() = default;
  virtual ~SelfAttention() = default;
  SelfAttention(const SelfAttention&) = delete;  // parameters point into it
  SelfAttention& operator=(const SelfAttention&) = delete;

  virtual void declare(std::vector<Parameter>& parameters) = 0;
  /// x [T, H] (normalized) -> y [T, H], of a model that is cut this rank's part of the sum; writes this
  /// step's keys and values to `cache` first.
  virtual void forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles, const KvView& cache,
                       TensorView y, Arena& arena) const = 0;
  [[nodiscard]] virtual int64_t scratch_bytes(int64_t tokens) const = 0;
};

/// Queries, keys and values of every head, projected and cached as they are.
class AttentionLayer final : public SelfAttention {
 public:
  AttentionLayer(const LayerContext& context, const AttentionLayerSpec& spec);

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles, const KvView& cache,
               TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  LayerContext context_;
  AttentionLayerSpec spec_;
  HeadShare heads_;                                   // of this rank
  Linear qkv_proj_;                                   // [(Hq + 2 Hk) D, H], Hq and Hk of this rank
  Linear o_proj_;                                     // [H, Hq D]
  std::vector<std::unique_ptr<QueryKeyStep>> steps_;  // norms of heads, rotation: what the model has of them
};

}  // namespace octet
