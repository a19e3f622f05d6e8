// SPDX-License-Identifier: Apache-2.0
#include "octet/models/config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "octet/models/config_limits.h"

namespace octet {
namespace {

/// YaRN's growth of the attention's temperature with the stretch.
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(JsonFields& rope, RopeSpec& spec) {
  spec.beta_fast = rope.number("beta_fast", 32.0, 1e-6, kMaxNumber);
  spec.beta_slow = rope.number("beta_slow", 1.0, 1e-6, kMaxNumber);
  spec.truncate = rope.boolean("truncate", true);
  const double mscale = rope.number("mscale", 0.0, 0.0, kMaxNumber);
  const double mscale_all_dim = rope.number("mscale_all_dim", 0.0, 0.0, kMaxNumber);
  const double ratio = mscale > 0 && mscale_all_dim > 0
                           ? yarn_mscale(spec.factor, mscale) / yarn_mscale(spec.factor, mscale_all_dim)
                           : yarn_mscale(spec.factor, 1.0);
  spec.attention_factor = rope.number("attention_factor", ratio, 0.0, kMaxNumber);
  const double growth = mscale_all_dim > 0 ? yarn_mscale(spec.factor, mscale_all_dim) : 1.0;
  spec.latent_scale_factor = growth * growth;
}

void read_rope_type(JsonFields& rope, RopeSpec& spec) {
  const std::string type = rope.string("rope_type", rope.string("type", "default"));
  if (type == "default") {
    spec.type = RopeType::kDefault;
  } else if (type == "linear") {
    spec.type = RopeType::kLinear;
  } else if (type == "llama3") {
    spec.type = RopeType::kLlama3;
  } else if (type == "yarn") {
    spec.type = RopeType::kYarn;
  } else {
    rope.fault("rope_type", "expected default, linear, llama3 or yarn, found \"" + type + "\"");
  }
}

void read_rope_scaling(JsonFields& rope, int64_t max_positions, RopeSpec& spec) {
  read_rope_type(rope, spec);
  if (spec.type == RopeType::kDefault) return;
  spec.factor = rope.number("factor", 1.0, 1e-6, kMaxNumber);
  if (!rope.has("factor"))
    rope.fault("factor", "expected a number, as its rope_type needs one, found nothing");
  spec.original_max_position_embeddings =
      rope.integer("original_max_position_embeddings", max_positions, 1, kMaxPositions);
  if (spec.type == RopeType::kLlama3) {
    spec.low_freq_factor = rope.number("low_freq_factor", 1.0, 1e-6, kMaxNumber);
    spec.high_freq_factor = rope.number("high_freq_factor", 4.0, 1e-6, kMaxNumber);
    if (spec.high_freq_factor <= spec.low_freq_factor) {
      rope.fault("high_freq_factor", "expected more than low_freq_factor, found no more");
    }
  }
  if (spec.type == RopeType::kYarn) read_yarn(rope, spec);
  spec.temperature_beta = rope.number("llama_4_scaling_beta", 0.0, 0.0, kMaxNumber);
  spec.temperature_original = spec.original_max_position_embeddings;
}

/// `rope_parameters` (transformers 5) holds all; before, `rope_theta` stood beside `rope_scaling`.
RopeSpec read_rope(JsonFields& fields, const ConfigDefaults& defaults, const DecoderSpec& spec) {
  RopeSpec rope;
  rope.theta = fields.number("rope_theta", defaults.rope_theta, 1.0 + 1e-9, kMaxNumber);
  double partial = fields.number("partial_rotary_factor", 1.0, 1e-6, 1.0);
  const Json* nested = fields.object("rope_parameters");
  if (nested == nullptr) nested = fields.object("rope_scaling");
  if (nested != nullptr) {
    JsonFields rope_fields(*nested, "config.json: rope_parameters");
    rope.theta = rope_fields.number("rope_theta", rope.theta, 1.0 + 1e-9, kMaxNumber);
    partial = rope_fields.number("partial_rotary_factor", partial, 1e-6, 1.0);
    const int64_t original =
        fields.integer("original_max_position_embeddings", spec.max_position_embeddings, 1, kMaxPositions);
    read_rope_scaling(rope_fields, original, rope);
    fields.absorb(rope_fields);
  }
  rope.rotary_dim = static_cast<int64_t>(static_cast<double>(spec.head_dim) * partial);
  if (rope.temperature_beta > 0 && rope.rotary_dim != spec.head_dim) {
    fields.fault("partial_rotary_factor",
                 "expected 1 beside llama_4_scaling_beta, found " + std::to_string(partial));
  }
  if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0) {
    fields.fault("head_dim",
                 "expected an even number of rotated columns, found " + std::to_string(rope.rotary_dim));
  }
  return rope;
}

}  // namespace

void read_heads(JsonFields& fields, DecoderSpec& spec, const char* head_dim) {
  spec.num_attention_heads = fields.required_integer("num_attention_heads", 1, kMaxSize);
  const int64_t heads = std::max<int64_t>(spec.num_attention_heads, 1);
  spec.num_key_value_heads = fields.integer("num_key_value_heads", heads, 1, kMaxSize);
  spec.head_dim = fields.integer(head_dim, std::max<int64_t>(spec.hidden_size / heads, 1), 1, 4096);
  if (!fields.has(head_dim) && spec.hidden_size % heads != 0) {
    fields.fault("num_attention_heads", "expected a divisor of hidden_size " +
                                            std::to_string(spec.hidden_size) + " (there is no " + head_dim +
                                            "), found " + std::to_string(heads));
  }
  if (heads % std::max<int64_t>(spec.num_key_value_heads, 1) != 0) {
    fields.fault("num_key_value_heads", "expected a divisor of num_attention_heads " + std::to_string(heads) +
                                            ", found " + std::to_string(spec.num_key_value_heads));
  }
}

void read_token_ids(JsonFields& fields, DecoderSpec& spec) {
  for (const int64_t id : fields.integers("eos_token_id", -1, kMaxTokenId)) {
    if (id >= 0) spec.eos_token_ids.push_back(static_cast<int32_t>(id));
  }
  const auto bos = fields.integers("bos_token_id", -1, kMaxTokenId);
  if (!bos.empty() && bos.front() >= 0) spec.bos_token_id = static_cast<int32_t>(bos.front());
}

void read_sizes(JsonFields& fields, DecoderSpec& spec, const char* intermediate) {
  spec.vocab_size = fields.required_integer("vocab_size", 1, kMaxVocab);
  spec.hidden_size = fields.required_integer("hidden_size", 1, kMaxSize);
  spec.intermediate_size = fields.required_integer(intermediate, 1, kMaxSize);
  spec.num_hidden_layers = fields.required_integer("num_hidden_layers", 1, kMaxLayers);
}

DType read_dtype(JsonFields& fields) {
  const char* name = fields.has("dtype") ? "dtype" : "torch_dtype";
  std::string value = fields.string(name, "bfloat16");
  constexpr std::string_view kPrefix = "torch.";
  if (value.starts_with(kPrefix)) value.erase(0, kPrefix.size());
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    if (value == torch_name(dtype)) return dtype;
  }
  fields.fault(name, "expected bfloat16, float16 or float32, found \"" + value + "\"");
  return DType::kBF16;
}

DecoderSpec read_common(JsonFields& fields, const ConfigDefaults& defaults) {
  DecoderSpec spec;
  spec.dtype = read_dtype(fields);
  read_sizes(fields, spec);
  spec.max_position_embeddings =
      fields.integer("max_position_embeddings", defaults.max_position_embeddings, 1, kMaxPositions);
  spec.rms_norm_eps = static_cast<float>(fields.number("rms_norm_eps", defaults.rms_norm_eps, 0.0, 1.0));
  spec.tie_word_embeddings = fields.boolean("tie_word_embeddings", defaults.tie_word_embeddings);
  const std::string activation = fields.string("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    fields.fault("hidden_act", "expected \"silu\", found \"" + activation + "\"");
  }
  read_heads(fields, spec, defaults.head_dim);
  spec.rope = read_rope(fields, defaults, spec);
  read_token_ids(fields, spec);
  return spec;
}

std::vector<int64_t> read_sliding_windows(JsonFields& fields, int64_t layers, WindowedLayers usual) {
  constexpr int64_t kMaxWindow = int64_t{1} << 30;
  std::vector<int64_t> result(static_cast<size_t>(layers), 0);
  const int64_t window = fields.integer("sliding_window", 4096, 0, kMaxWindow);
  if (!fields.boolean("use_sliding_window", false)) return result;
  const int64_t edge = fields.integer("max_window_layers", 28, 0, kMaxWindow);
  const auto types = fields.strings("layer_types");
  if (!types.empty() && types.size() != result.size()) {
    fields.fault("layer_types", "expected one entry for each of the " + std::to_string(layers) +
                                    " layers, found " + std::to_string(types.size()));
    return result;
  }
  const auto slides = [&](size_t i) {
    if (!types.empty()) return types[i] == "sliding_attention";
    const auto layer = static_cast<int64_t>(i);
    if (usual == WindowedLayers::kUpper) return layer >= edge;
    return usual == WindowedLayers::kAll || (layer % 2 == 0 && layer < edge);
  };
  for (size_t i = 0; i < result.size(); ++i) {
    if (!types.empty() && !slides(i) && types[i] != "full_attention") {
      fields.fault("layer_types", "expected full_attention or sliding_attention, found \"" + types[i] + "\"");
    }
    result[i] = slides(i) ? window : 0;
  }
  return result;
}

}  // namespace octet
