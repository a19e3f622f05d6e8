// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_groups.h"

namespace octet {
namespace {

struct Mark {
  std::string_view part;
  std::string_view group;
};

// The first that occurs decides: "post_attention_layernorm" is a norm, "mlp.experts.0" an expert.
constexpr std::array<Mark, 15> kMarks = {{{"norm", "norms"},
                                          {"ln_f", "norms"},
                                          {"lm_head", "lm_head"},
                                          {"embed", "embed_tokens"},
                                          {"wte", "embed_tokens"},
                                          {"wpe", "embed_tokens"},
                                          {"expert", "experts"},
                                          {"attn", "attention"},
                                          {"attention", "attention"},
                                          {"mlp", "mlp"},
                                          {"moe", "mlp"},
                                          {"feed_forward", "mlp"},
                                          {"ffn", "mlp"},
                                          {"fc1", "mlp"},
                                          {"fc2", "mlp"}}};

}  // namespace

std::string_view weight_group(std::string_view name) {
  for (const Mark& mark : kMarks) {
    if (name.find(mark.part) != std::string_view::npos) return mark.group;
  }
  return "other";
}

}  // namespace octet
