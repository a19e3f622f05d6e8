// SPDX-License-Identifier: Apache-2.0
/// What a refusal says.
#pragma once

#include <string>

namespace octet::test {

/// The message of the E that `action` throws; "accepted" where it throws nothing.
template <class E, class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace octet::test
