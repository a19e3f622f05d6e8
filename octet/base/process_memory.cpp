// SPDX-License-Identifier: Apache-2.0
#include "octet/base/process_memory.h"

#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

namespace octet {
namespace {

constexpr int64_t kBytesOfKilobyte = 1024;

// "VmRSS:\t  123456 kB"
int64_t field(std::string_view status, std::string_view name) {
  size_t line = 0;
  while (line < status.size()) {
    const size_t end = std::min(status.find('\n', line), status.size());
    std::string_view text = status.substr(line, end - line);
    line = end + 1;
    if (!text.starts_with(name)) continue;
    text.remove_prefix(name.size());
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    int64_t value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && value >= 0 ? value * kBytesOfKilobyte : 0;
  }
  return 0;
}

}  // namespace

ProcessMemory parse_process_status(std::string_view status) {
  return {.resident_bytes = field(status, "VmRSS:"), .peak_resident_bytes = field(status, "VmHWM:")};
}

ProcessMemory process_memory() {
  std::ifstream file("/proc/self/status");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_process_status(text.str());
}

}  // namespace octet
