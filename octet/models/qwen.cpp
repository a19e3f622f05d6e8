// SPDX-License-Identifier: Apache-2.0
// Qwen2 and 2.5 (biases on q, k and v) and Qwen3 (norms on the heads of q and k), dense.
#include "octet/models/architectures.h"
#include "octet/models/config.h"

namespace octet {
DecoderSpec read_qwen2(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  spec.qkv_bias = true;
  spec.sliding_windows = read_sliding_windows(fields, spec.num_hidden_layers, WindowedLayers::kUpper);
  return spec;
}

DecoderSpec read_qwen3(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  if (!fields.has("head_dim")) {
    spec.head_dim = 128;
    spec.rope.rotary_dim = 128;
  }
  spec.qkv_bias = fields.boolean("attention_bias", false);
  spec.attention_output_bias = spec.qkv_bias;
  spec.qk_norm = true;
  spec.sliding_windows = read_sliding_windows(fields, spec.num_hidden_layers, WindowedLayers::kUpper);
  return spec;
}

}  // namespace octet
