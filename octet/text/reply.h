// SPDX-License-Identifier: Apache-2.0
/// Turns replies of the Rust library into strings, ids and exceptions. Private to octet/text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/text/abi.h"

namespace octet::text {

/// Calls the library with a place for its reply and returns the reply's bytes.
/// Throws FormatError, ConfigError, ArgumentError or Error with the library's message as the status says.
std::string call(const std::function<int32_t(OctetTextReply*)>& function);

/// The int32 values in `bytes`, as the library writes them.
std::vector<int32_t> ids_from(const std::string& bytes);

/// `text` as the library borrows it for the time of a call.
inline OctetTextSlice slice(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace octet::text
