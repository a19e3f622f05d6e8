// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_groups.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(WeightGroups, NamesOfEveryKindFindTheirGroup) {
  EXPECT_EQ(weight_group("model.embed_tokens.weight"), "embed_tokens");
  EXPECT_EQ(weight_group("lm_head.weight"), "lm_head");
  EXPECT_EQ(weight_group("model.layers.0.self_attn.qkv_proj"), "attention");
  EXPECT_EQ(weight_group("model.layers.0.mlp.gate_up_proj"), "mlp");
  EXPECT_EQ(weight_group("model.layers.0.mlp.experts.3.up_proj.weight"), "experts");
  EXPECT_EQ(weight_group("model.layers.0.post_attention_layernorm.weight"), "norms");
  EXPECT_EQ(weight_group("model.layers.0.self_attn.q_norm.weight"), "norms");
  EXPECT_EQ(weight_group("model.layers.0.fc1.weight"), "mlp");
  EXPECT_EQ(weight_group("something"), "other");
}

}  // namespace
}  // namespace octet
