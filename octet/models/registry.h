// SPDX-License-Identifier: Apache-2.0
/// From config.json to a DecoderSpec: the table of architectures.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octet/base/json.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// Reads a parsed config.json. `source` names the file in messages.
/// Throws ConfigError: for an unknown architecture, naming the known ones and the nearest; for wrong fields,
/// all of them.
[[nodiscard]] DecoderSpec read_decoder_spec(const Json& config, const std::string& source);

/// Reads a parsed params.json, as Mistral describes its own models. Throws ConfigError with all wrong fields.
[[nodiscard]] DecoderSpec read_mistral_params(const Json& params, const std::string& source);

/// "LlamaForCausalLM", ... in the order of the table.
[[nodiscard]] std::vector<std::string> known_architectures();

}  // namespace octet
