// SPDX-License-Identifier: Apache-2.0
/// A decoder-only model as data: the numbers and kinds that config.json gives. Made by one file per
/// architecture.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/core/dtype.h"
#include "octet/layers/rotary.h"

namespace octet {

/// Checkpoint names without ".weight"; `{i}` stands for the layer's number.
struct WeightNames {
  std::string embed_tokens = "model.embed_tokens";
  std::string layer = "model.layers.{i}";
  std::string norm = "model.norm";
  std::string lm_head = "lm_head";

  [[nodiscard]] std::string layer_name(int64_t index) const;
};

struct DecoderSpec {
  std::string architecture;  ///< "LlamaForCausalLM"
  WeightNames names;
  DType dtype = DType::kBF16;  ///< what the checkpoint says it is: `torch_dtype` or `dtype`

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6F;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  RopeSpec rope;
  std::vector<int64_t> sliding_windows;  ///< one per layer; 0: full attention

  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
};

}  // namespace octet
