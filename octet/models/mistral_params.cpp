// SPDX-License-Identifier: Apache-2.0
// params.json, as Mistral describes its own models: other names for fields and weights, neighbouring columns
// rotated together.
#include <algorithm>
#include <cmath>
#include <utility>

#include "octet/models/config.h"
#include "octet/models/config_limits.h"
#include "octet/models/moe_config.h"
#include "octet/models/registry.h"

namespace octet {
namespace {

WeightNames native_names() {
  WeightNames names;
  names.embed_tokens = "tok_embeddings";
  names.layer = "layers.{i}";
  names.norm = "norm";
  names.lm_head = "output";
  names.input_layernorm = "attention_norm";
  names.self_attn = "attention";
  names.attention = {
      .q_proj = "wq", .k_proj = "wk", .v_proj = "wv", .o_proj = "wo", .q_norm = "", .k_norm = ""};
  names.post_attention_layernorm = "ffn_norm";
  names.mlp = "feed_forward";
  names.feed_forward = {.gate_proj = "w1", .up_proj = "w3", .down_proj = "w2"};
  return names;
}

void read_native_sizes(JsonFields& params, DecoderSpec& spec) {
  spec.vocab_size = params.required_integer("vocab_size", 1, int64_t{1} << 26);
  spec.hidden_size = params.required_integer("dim", 1, kMaxSize);
  spec.intermediate_size = params.required_integer("hidden_dim", 1, kMaxSize);
  spec.num_hidden_layers = params.required_integer("n_layers", 1, 4096);
  spec.num_attention_heads = params.required_integer("n_heads", 1, kMaxSize);
  const int64_t heads = std::max<int64_t>(spec.num_attention_heads, 1);
  spec.num_key_value_heads = params.integer("n_kv_heads", heads, 1, kMaxSize);
  spec.head_dim = params.integer("head_dim", std::max<int64_t>(spec.hidden_size / heads, 2), 2, 4096);
  if (heads % std::max<int64_t>(spec.num_key_value_heads, 1) != 0) {
    params.fault("n_kv_heads", "expected a divisor of n_heads " + std::to_string(heads) + ", found " +
                                   std::to_string(spec.num_key_value_heads));
  }
  if (spec.head_dim % 2 != 0)
    params.fault("head_dim", "expected an even number, found " + std::to_string(spec.head_dim));
  spec.max_position_embeddings = params.integer(
      "max_position_embeddings", params.integer("max_seq_len", 128000, 1, kMaxPositions), 1, kMaxPositions);
  spec.rms_norm_eps = static_cast<float>(params.number("norm_eps", 1e-5, 0.0, 1.0));
  spec.tie_word_embeddings = params.boolean("tied_embeddings", false);
}

/// A number for all layers, or a list of numbers and nulls that repeats over them.
void read_windows(JsonFields& params, DecoderSpec& spec) {
  spec.sliding_windows.assign(static_cast<size_t>(spec.num_hidden_layers), 0);
  const auto it = params.json().find("sliding_window");
  if (it == params.json().end() || it->is_null()) return;
  std::vector<int64_t> pattern;
  const Json list = it->is_array() ? *it : Json::array({*it});
  for (const Json& item : list) {
    const bool number =
        item.is_number_integer() && item.get<int64_t>() >= 0 && item.get<int64_t>() <= kMaxPositions;
    if (!number && !item.is_null()) {
      return params.fault(
          "sliding_window",
          "expected a number of tokens, or a list of such and null, found " + it->dump().substr(0, 80));
    }
    pattern.push_back(number ? item.get<int64_t>() : 0);
  }
  for (size_t i = 0; i < spec.sliding_windows.size() && !pattern.empty(); ++i)
    spec.sliding_windows[i] = pattern[i % pattern.size()];
}

void read_native_yarn(JsonFields& params, RopeSpec& rope) {
  const Json* object = params.object("yarn");
  if (object == nullptr) return;
  JsonFields yarn(*object, "params.json: yarn");
  rope.type = RopeType::kYarn;
  rope.factor = yarn.number("factor", 1.0, 1e-6, kMaxNumber);
  rope.original_max_position_embeddings =
      yarn.required_integer("original_max_position_embeddings", 1, kMaxPositions);
  rope.beta_fast = yarn.number("beta", 32.0, 1e-6, kMaxNumber);
  rope.beta_slow = yarn.number("alpha", 1.0, 1e-6, kMaxNumber);
  const bool apply = yarn.boolean("apply_scale", true) && rope.factor > 1.0;
  rope.attention_factor = apply ? 0.1 * std::log(rope.factor) + 1.0 : 1.0;
  params.absorb(yarn);
}

void read_temperature(JsonFields& params, RopeSpec& rope) {
  const Json* object = params.object("llama_4_scaling");
  if (object == nullptr) return;
  JsonFields scaling(*object, "params.json: llama_4_scaling");
  rope.temperature_beta = scaling.number("beta", 0.0, 0.0, kMaxNumber);
  rope.temperature_original = scaling.required_integer("original_max_position_embeddings", 1, kMaxPositions);
  params.absorb(scaling);
}

/// What Mixtral has no part of, and the value that says so.
void refuse_other_mixtures(JsonFields& moe) {
  struct Plain {
    const char* field;
    int64_t value;
  };
  for (const Plain plain :
       {Plain{"num_shared_experts", 0}, Plain{"num_expert_groups", 1}, Plain{"num_expert_groups_per_tok", 1},
        Plain{"first_k_dense_replace", 0}, Plain{"route_every_n", 1}}) {
    const int64_t found = moe.integer(plain.field, plain.value, 0, kMaxSize);
    if (found == plain.value) continue;
    moe.fault(plain.field,
              "expected " + std::to_string(plain.value) +
                  ", as in Mixtral (other mixtures are read in the Hugging Face layout), found " +
                  std::to_string(found));
  }
  if (const double scale = moe.number("routed_scale", 1.0, 0.0, kMaxNumber); scale != 1.0)
    moe.fault("routed_scale", "expected 1, as in Mixtral, found " + std::to_string(scale));
}

/// Mixtral: every layer a mixture, which its files have named in two ways.
void read_mixture(JsonFields& params, DecoderSpec& spec) {
  const Json* object = params.object("moe");
  if (object == nullptr) return;
  JsonFields fields(*object, "params.json: moe");
  MoeSpec moe = read_moe(fields, {.moe_intermediate_size = spec.intermediate_size, .norm_topk_prob = true});
  moe.intermediate_size = fields.integer("expert_hidden_dim", spec.intermediate_size, 1, kMaxSize);
  moe.router.normalize = true;
  moe.names.module = "feed_forward";
  moe.names.other_module = "block_sparse_moe";
  moe.names.gate_proj = "w1";
  moe.names.up_proj = "w3";
  moe.names.down_proj = "w2";
  refuse_other_mixtures(fields);
  params.absorb(fields);
  spec.moe = std::move(moe);
  spec.architecture = "MixtralForCausalLM";
  bound_experts(params, spec, "n_layers");
}

}  // namespace

DecoderSpec read_mistral_params(const Json& json, const std::string& source) {
  JsonFields params(json, source);
  params.finish();  // an object
  DecoderSpec spec;
  spec.architecture = "MistralForCausalLM";
  spec.names = native_names();
  spec.skipped_tensors = {"vision_encoder.*",       "vision_language_adapter.*", "patch_merger.*",
                          "pre_mm_projector_norm*", "*fake_quantizer*",          "*.qscale_act"};
  read_native_sizes(params, spec);
  read_windows(params, spec);
  spec.rope.theta = params.number("rope_theta", 10000.0, 1.0 + 1e-9, kMaxNumber);
  spec.rope.rotary_dim = spec.head_dim;
  spec.rope.style = RopeStyle::kInterleaved;
  read_native_yarn(params, spec.rope);
  read_temperature(params, spec.rope);
  spec.bos_token_id = 1;  // of every tokenizer of Mistral
  spec.eos_token_ids = {2};
  const std::string activation = params.string("activation", "silu");
  if (activation != "silu") params.fault("activation", "expected \"silu\", found \"" + activation + "\"");
  read_mixture(params, spec);
  params.finish();
  return spec;
}

}  // namespace octet
