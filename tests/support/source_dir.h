// SPDX-License-Identifier: Apache-2.0
/// Where the repository lies whose files tests read.
#pragma once

#include <filesystem>

namespace octet {

[[nodiscard]] std::filesystem::path source_dir();

}  // namespace octet
