// SPDX-License-Identifier: Apache-2.0
/// One reader per architecture; each lives in a file of its own and has a row in registry.cpp.
#pragma once

#include "octet/base/json.h"
#include "octet/models/decoder_spec.h"

namespace octet {

[[nodiscard]] DecoderSpec read_llama(JsonFields& fields);
[[nodiscard]] DecoderSpec read_mistral(JsonFields& fields);
[[nodiscard]] DecoderSpec read_opt(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen2(JsonFields& fields);
[[nodiscard]] DecoderSpec read_qwen3(JsonFields& fields);

}  // namespace octet
