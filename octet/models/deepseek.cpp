// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V2, V2-Lite and V3: latent attention and mixtures of many small experts. V2 scores experts by
// softmax and, in the large one, chooses from the best groups; V3 by sigmoid with a correction that training
// left behind.
#include "octet/models/architectures.h"
#include "octet/models/latent_config.h"

namespace octet {

DecoderSpec read_deepseek_v2(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, latent_defaults(2048, 1e-6));
  read_latent_attention(fields, spec);
  read_latent_moe(fields, spec, {.first_dense_layers = 0, .norm_topk_prob = false});
  spec.rope.style = RopeStyle::kInterleaved;
  RouterSpec& router = spec.moe->router;
  const std::string method = fields.string("topk_method", "greedy");
  if (method == "greedy") {
    router.groups = router.chosen_groups = 1;
  } else if (method != "group_limited_greedy") {
    fields.fault("topk_method", "expected greedy or group_limited_greedy, found \"" + method + "\"");
  }
  router.group_score = GroupScore::kLargest;
  if (fields.boolean("mlp_bias", false)) fields.fault("mlp_bias", "expected false, found true");
  return spec;
}

DecoderSpec read_deepseek_v3(JsonFields& fields) {
  return read_latent_sigmoid_model(fields, latent_defaults(4096, 1e-6), 3);
}

}  // namespace octet
