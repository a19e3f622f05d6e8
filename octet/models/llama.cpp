// SPDX-License-Identifier: Apache-2.0
// Llama 2 to 3.3 and their fine-tunes; Mistral, which differs by its window and its head_dim, and Ministral
// 3, whose queries grow with the position (in its rope parameters).
#include "octet/models/architectures.h"
#include "octet/models/config.h"

namespace octet {

DecoderSpec read_llama(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 2048, .rms_norm_eps = 1e-6});
  spec.qkv_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.qkv_bias;
  spec.mlp_bias = fields.boolean("mlp_bias", false);
  return spec;
}

DecoderSpec read_mistral(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 131072, .rms_norm_eps = 1e-6});
  const int64_t window = fields.integer("sliding_window", 0, 0, int64_t{1} << 30);
  spec.sliding_windows.assign(static_cast<size_t>(spec.num_hidden_layers), window);
  return spec;
}

}  // namespace octet
