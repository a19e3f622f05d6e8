// SPDX-License-Identifier: Apache-2.0
/// Grouped-query self-attention over the paged cache.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/layers/linear.h"
#include "octet/layers/norm.h"
#include "octet/layers/rotary.h"

namespace octet {

struct AttentionLayerSpec {
  std::string name;  ///< "model.layers.0.self_attn"
  int64_t hidden_size = 0;
  int64_t num_attention_heads = 0;  // Hq
  int64_t num_key_value_heads = 0;  // Hk
  int64_t head_dim = 0;             // D
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;        ///< an RMS norm of each query and key head, before the rotation (Qwen3)
  float rms_norm_eps = 1e-6F;  ///< of those
  int64_t sliding_window = 0;  ///< 0: none
  RopeStyle rope_style = RopeStyle::kHalfSplit;
};

/// cos and sin of a step's positions, shared by its layers: [T, R / 2] each.
struct RopeAngles {
  ConstTensorView cos;
  ConstTensorView sin;
};

class AttentionLayer {
 public:
  AttentionLayer(const LayerContext& context, const AttentionLayerSpec& spec);

  void declare(std::vector<Parameter>& parameters);
  /// x [T, H] (normalized) -> y [T, H]; writes this step's keys and values to `cache` first.
  void forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles, const KvView& cache,
               TensorView y, Arena& arena) const;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const;

 private:
  LayerContext context_;
  AttentionLayerSpec spec_;
  Linear qkv_proj_;  // [(Hq + 2 Hk) D, H]
  Linear o_proj_;    // [H, Hq D]
  std::unique_ptr<RmsNorm> q_norm_;
  std::unique_ptr<RmsNorm> k_norm_;
};

}  // namespace octet
