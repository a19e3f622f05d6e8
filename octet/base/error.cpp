// SPDX-License-Identifier: Apache-2.0
#include "octet/base/error.h"

#include <system_error>

namespace octet {

std::string system_reason(int error) {
  return std::generic_category().message(error);
}

void check(bool condition, std::string_view message, std::source_location where) {
  if (condition) return;
  std::string_view file = where.file_name();
  if (const auto root = file.rfind("octet/"); root != std::string_view::npos) file.remove_prefix(root);
  throw ArgumentError(std::string(message) + " (" + std::string(file) + ":" + std::to_string(where.line()) +
                      ")");
}

}  // namespace octet
