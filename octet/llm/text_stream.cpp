// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/text_stream.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"

namespace octet {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty())
      throw ArgumentError("stop: expected strings of at least one character, found an empty one");
  }
}

/// The longest end of the pending text that begins a stop string.
size_t StopStrings::held_bytes() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, pending_.size()); length > held; --length) {
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, length))) held = length;
    }
  }
  return held;
}

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  pending_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, pending_.find(stop));
  stopped_ = first != std::string::npos;
  const size_t safe = stopped_ ? first : pending_.size() - held_bytes();
  std::string ready = pending_.substr(0, safe);
  pending_.erase(0, safe);
  return ready;
}

std::string StopStrings::finish() {
  if (stopped_) return {};
  return std::exchange(pending_, {});
}

}  // namespace octet
