// SPDX-License-Identifier: Apache-2.0
/// One reader per architecture; each lives in a file of its own and has a row in registry.cpp.
#pragma once

#include "octet/base/json.h"
#include "octet/models/decoder_spec.h"

namespace octet {

[[nodiscard]] DecoderSpec read_deepseek_v2(JsonFields& fields);
[[nodiscard]] DecoderSpec read_deepseek_v3(JsonFields& fields);
[[nodiscard]] DecoderSpec read_glm4_moe_lite(JsonFields& fields);
[[nodiscard]] DecoderSpec read_llama(JsonFields& fields);
[[nodiscard]] DecoderSpec read_mistral(JsonFields& fields);
[[nodiscard]] DecoderSpec read_mistral3(JsonFields& fields);
[[nodiscard]] DecoderSpec read_opt(JsonFields& fields);
[[nodiscard]] DecoderSpec read_mixtral(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen2(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen2_moe(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen3(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen3_moe(JsonFields& fields);

}  // namespace octet
