// SPDX-License-Identifier: Apache-2.0
/// The fields of config.json that the models with latent attention share: DeepSeek's and those built like
/// them.
#pragma once

#include "octet/base/json.h"
#include "octet/models/config.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// What `read_common` needs to know of these models: their rotated columns stand in `qk_rope_head_dim`.
[[nodiscard]] inline ConfigDefaults latent_defaults(int64_t max_position_embeddings, double rms_norm_eps) {
  return {.max_position_embeddings = max_position_embeddings,
          .rms_norm_eps = rms_norm_eps,
          .head_dim = "qk_rope_head_dim"};
}

/// Attention: the ranks and columns of its heads, biases, style of rotation, scale. After `read_common`.
void read_latent_attention(JsonFields& fields, DecoderSpec& spec);

/// What an architecture has where its config.json is silent.
struct LatentMoeDefaults {
  int64_t first_dense_layers = 0;
  bool norm_topk_prob = false;
};

/// Experts: their numbers and sizes, the shared ones, the layers that have them, groups and scaling factor.
void read_latent_moe(JsonFields& fields, DecoderSpec& spec, const LatentMoeDefaults& defaults);

/// A model as DeepSeek-V3 is one: the above, experts scored by sigmoid with a correction bias, and layers
/// beyond the last, which predict further tokens: known, and left out.
[[nodiscard]] DecoderSpec read_latent_sigmoid_model(JsonFields& fields, const ConfigDefaults& defaults,
                                                    int64_t first_dense_layers);

}  // namespace octet
