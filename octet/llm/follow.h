// SPDX-License-Identifier: Apache-2.0
/// What the ranks other than 0 do while rank 0 generates, evaluates or measures.
#pragma once

#include "octet/llm/llm.h"

namespace octet {

/// On ranks other than 0: does with this rank's part of the model what rank 0 orders, until it ends.
void follow(LLM& llm);
/// The same for a rank that holds nothing: waits for the end.
void wait_for_end(Communicator& communicator);
/// On rank 0, once its work is done: lets the others return. Does nothing where it is alone.
void end_followers(Communicator& communicator);

}  // namespace octet
