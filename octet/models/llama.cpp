// SPDX-License-Identifier: Apache-2.0
// Llama 2 to 3.3 and their fine-tunes.
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

}  // namespace octet
