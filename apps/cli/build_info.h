// SPDX-License-Identifier: Apache-2.0
/// What this build is. Filled in by CMake.
#pragma once

#include <string_view>

namespace octet::cli {

struct BuildInfo {
  std::string_view version;
  std::string_view compiler;
  std::string_view build_type;
  std::string_view source_folder;  ///< where it was built: the bundled model's place before installation
};

[[nodiscard]] BuildInfo build_info();

}  // namespace octet::cli
