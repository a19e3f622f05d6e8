// SPDX-License-Identifier: Apache-2.0
// GLM-4.7-Flash: DeepSeek-V3's attention and router at other sizes.
#include "octet/models/architectures.h"
#include "octet/models/latent_config.h"

namespace octet {

DecoderSpec read_glm4_moe_lite(JsonFields& fields) {
  DecoderSpec spec = read_common(fields, latent_defaults(202752, 1e-5));
  read_latent_attention(fields, spec);
  read_latent_moe(fields, spec, {.first_dense_layers = 1, .norm_topk_prob = true});
  RouterSpec& router = spec.moe->router;
  router.score = RouterScore::kSigmoid;
  router.correction_bias = true;
  router.group_score = GroupScore::kTwoLargest;
  skip_predicting_layers(fields, spec);
  return spec;
}

}  // namespace octet
