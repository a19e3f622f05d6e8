// SPDX-License-Identifier: Apache-2.0
/// A decoder-only model as data: the numbers and kinds that config.json gives. Made by one file per
/// architecture.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/core/dtype.h"
#include "octet/layers/attention.h"
#include "octet/layers/embedding.h"
#include "octet/layers/latent_attention.h"
#include "octet/layers/mlp.h"
#include "octet/layers/moe.h"
#include "octet/layers/norm.h"
#include "octet/layers/positions.h"

namespace octet {

/// Checkpoint names without ".weight"; `{i}` stands for the layer's number.
struct WeightNames {
  std::string embed_tokens = "model.embed_tokens";
  std::string embed_positions;  ///< of learned positions
  ProjectionNames projections;  ///< of tables whose width is not the hidden size
  std::string layer = "model.layers.{i}";
  std::string norm = "model.norm";
  std::string lm_head = "lm_head";

  // Inside a layer.
  std::string input_layernorm = "input_layernorm";
  std::string self_attn = "self_attn";
  AttentionNames attention;
  std::string post_attention_layernorm = "post_attention_layernorm";
  std::string mlp = "mlp";  ///< empty: its parts stand in the layer itself
  MlpNames feed_forward;

  [[nodiscard]] std::string layer_name(int64_t index) const;
  /// The same names with the prefix `from` replaced by `to` where they begin with it.
  [[nodiscard]] WeightNames with_prefix(std::string_view from, std::string_view to) const;
};

/// Where a layer normalizes: what enters attention and feed-forward, or the sums that they leave (opt-350m).
enum class NormPlace { kBefore, kAfter };
enum class MlpKind { kGatedSilu, kRelu };
enum class PositionKind { kRotary, kLearned };

struct DecoderSpec {
  std::string architecture;  ///< "LlamaForCausalLM"
  WeightNames names;
  /// Further spellings of the same weights: a checkpoint has one of them, `names` first.
  std::vector<WeightNames> other_names;
  /// Patterns of tensors that belong to parts which are left out, such as an image encoder.
  std::vector<std::string> skipped_tensors;
  DType dtype = DType::kBF16;  ///< what the checkpoint says it is: `torch_dtype` or `dtype`

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t embedding_size = 0;  ///< the tables' width; 0: the hidden size
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6F;  ///< of all norms, of whatever kind
  NormKind norm = NormKind::kRms;
  NormKind final_norm = NormKind::kRms;
  NormPlace norm_place = NormPlace::kBefore;
  MlpKind mlp = MlpKind::kGatedSilu;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  PositionKind positions = PositionKind::kRotary;
  RopeSpec rope;                              ///< rotary positions
  int64_t position_offset = 0;                ///< learned positions: the row of position 0
  std::vector<int64_t> sliding_windows;       ///< one per layer; 0: full attention
  std::optional<LatentAttentionSpec> latent;  ///< latent attention, in all layers
  std::optional<MoeSpec> moe;                 ///< of the layers that are mixtures of experts
  std::vector<bool> sparse_layers;            ///< which layers are; empty: all, where there is `moe`

  /// Makes `names` the first spelling whose embedding is there, as `has_tensor` says, and takes the other
  /// name of mixtures where only that is there; none: leaves them.
  void choose_names(const std::function<bool(const std::string& tensor)>& has_tensor);

  [[nodiscard]] bool is_sparse(int64_t layer) const {
    return moe.has_value() && (sparse_layers.empty() || sparse_layers[static_cast<size_t>(layer)]);
  }

  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
};

}  // namespace octet
