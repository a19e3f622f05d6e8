// SPDX-License-Identifier: Apache-2.0
// Qwen2 and 2.5 (biases on q, k and v) and Qwen3 (norms on the heads of q and k), dense.
#include "octet/models/architectures.h"
#include "octet/models/config.h"

namespace octet {
namespace {

constexpr int64_t kMaxWindow = int64_t{1} << 30;

/// `layer_types` (transformers 5) says it layer by layer; before, layers from `max_window_layers` on slid.
std::vector<int64_t> windows(JsonFields& fields, int64_t layers) {
  std::vector<int64_t> result(static_cast<size_t>(layers), 0);
  const int64_t window = fields.integer("sliding_window", 4096, 0, kMaxWindow);
  if (!fields.boolean("use_sliding_window", false)) return result;
  const int64_t first = fields.integer("max_window_layers", 28, 0, kMaxWindow);
  const auto types = fields.strings("layer_types");
  if (!types.empty() && types.size() != result.size()) {
    fields.fault("layer_types", "expected one entry for each of the " + std::to_string(layers) +
                                    " layers, found " + std::to_string(types.size()));
    return result;
  }
  for (size_t i = 0; i < result.size(); ++i) {
    const bool slides = types.empty() ? static_cast<int64_t>(i) >= first : types[i] == "sliding_attention";
    if (!types.empty() && !slides && types[i] != "full_attention") {
      fields.fault("layer_types", "expected full_attention or sliding_attention, found \"" + types[i] + "\"");
    }
    result[i] = slides ? window : 0;
  }
  return result;
}

}  // namespace

DecoderSpec read_qwen2(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, {.max_position_embeddings = 32768, .rms_norm_eps = 1e-6});
  spec.qkv_bias = true;
  spec.sliding_windows = windows(fields, spec.num_hidden_layers);
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
  spec.sliding_windows = windows(fields, spec.num_hidden_layers);
  return spec;
}

}  // namespace octet
