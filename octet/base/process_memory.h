// SPDX-License-Identifier: Apache-2.0
/// What the operating system says this process holds in memory.
#pragma once

#include <cstdint>
#include <string_view>

namespace octet {

/// Resident set size in bytes. Zero where the system does not tell.
struct ProcessMemory {
  int64_t resident_bytes = 0;       ///< now
  int64_t peak_resident_bytes = 0;  ///< the most since the process began
};

/// Reads /proc/self/status.
[[nodiscard]] ProcessMemory process_memory();

/// The same from the text of such a file.
[[nodiscard]] ProcessMemory parse_process_status(std::string_view status);

}  // namespace octet
