// SPDX-License-Identifier: Apache-2.0
/// What a line that begins with "/" does in a conversation.
#pragma once

#include <string>

#include "apps/cli/console.h"
#include "apps/cli/conversation.h"
#include "apps/cli/sampling_args.h"

namespace octet::cli {

struct ChatState {
  Conversation conversation;
  SamplingArgs sampling;
};

/// False for /bye. Throws ArgumentError for unknown commands and values, FormatError and DeviceError from
/// files.
[[nodiscard]] bool run_chat_command(ChatState& state, const std::string& line, const Console& console);

}  // namespace octet::cli
