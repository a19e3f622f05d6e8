// SPDX-License-Identifier: Apache-2.0
// GLM-4.7-Flash: DeepSeek-V3's attention and router at other sizes.
#include "octet/models/architectures.h"
#include "octet/models/latent_config.h"

namespace octet {

DecoderSpec read_glm4_moe_lite(JsonFields& fields) {
  return read_latent_sigmoid_model(fields, latent_defaults(202752, 1e-5), 1);
}

}  // namespace octet
