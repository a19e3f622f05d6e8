// SPDX-License-Identifier: Apache-2.0
/// Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1): keys and values of all heads
/// come from one short vector per token, and that vector alone is cached.
///
/// It is computed absorbed, for prompts as for single tokens: kv_b_proj never meets the cached vectors. The
/// queries go through the keys' half of it, transposed, attention runs over the latent vectors, one key head
/// for all queries and each key its own value, and what it gives goes through the values' half. Both halves
/// are read from the matrix as it is stored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/layers/attention.h"
#include "octet/layers/linear.h"
#include "octet/layers/norm.h"

namespace octet {

struct LatentAttentionSpec {
  int64_t q_lora_rank = 0;       ///< 0: queries are projected in one step
  int64_t kv_lora_rank = 0;      // L
  int64_t qk_nope_head_dim = 0;  ///< columns of a head without rotation
  int64_t qk_rope_head_dim = 0;  ///< and those with: one key for all heads
  int64_t v_head_dim = 0;
  float rms_norm_eps = 1e-6F;  ///< of the two low-rank norms
  float scale_factor = 1.0F;   ///< of q . k, beside 1 / sqrt(columns of a head)

  [[nodiscard]] int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  /// Numbers that a token leaves in the cache.
  [[nodiscard]] int64_t cached_dim() const { return kv_lora_rank + qk_rope_head_dim; }
};

class LatentAttention final : public SelfAttention {
 public:
  /// Of `layer` its name, hidden size, query heads, output bias and rope style count. The cache has one head
  /// of `cached_dim` columns whose values are its keys.
  LatentAttention(const LayerContext& context, const AttentionLayerSpec& layer,
                  const LatentAttentionSpec& spec);

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, const Batch& batch, const RopeAngles& angles, const KvView& cache,
               TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  [[nodiscard]] int64_t heads() const { return mine_.size(); }
  /// Rows of kv_b_proj [heads * (nope + v), L]: the keys' or the values' of each head.
  [[nodiscard]] HeadMatrix keys_of(int64_t x_stride) const;
  [[nodiscard]] HeadMatrix values_of(int64_t x_stride) const;
  void project_queries(ConstTensorView x, TensorView q, Arena& arena) const;

  LayerContext context_;
  AttentionLayerSpec layer_;
  LatentAttentionSpec spec_;
  IndexRange mine_;                    // the heads of this rank
  Linear q_proj_;                      // q_b_proj [heads * qk_head_dim, q_lora_rank], or q_proj [.., H]
  std::unique_ptr<Linear> q_a_proj_;   // [q_lora_rank, H]
  std::unique_ptr<RmsNorm> q_a_norm_;  // [q_lora_rank]
  Linear kv_a_proj_;                   // [L + rope, H]
  RmsNorm kv_a_norm_;                  // [L]
  Linear kv_b_proj_;                   // [heads * (nope + v), L]
  Linear o_proj_;                      // [H, heads * v]
};

}  // namespace octet
