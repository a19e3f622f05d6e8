// SPDX-License-Identifier: Apache-2.0
/// From a conversation to token ids: the chat template rendered, and its text encoded.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "octet/text/chat_template.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// The ids of `request_json`, which is what `ChatTemplate::render` takes; it throws the same.
///
/// Where a message spells a special token, both makers' own ways are kept. With a tokenizer of Hugging Face
/// the name stands for the token, as in transformers, which renders a prompt before it encodes it. With
/// tekken.json it is text, as in mistral-common: only what the template itself writes stands for tokens. A
/// template sees such a name with a character inside that no text has (a noncharacter of Unicode).
[[nodiscard]] std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                               std::string_view request_json);

}  // namespace octet
