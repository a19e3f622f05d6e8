// SPDX-License-Identifier: Apache-2.0
#include "octet/base/faults.h"

namespace octet {

std::string quote(std::string_view text, size_t limit) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      result += c;
    } else {
      result += "\\x";
      result += kHex[byte >> 4];
      result += kHex[byte & 15U];
    }
  }
  if (text.size() > limit) return result + "...' (" + std::to_string(text.size()) + " bytes)";
  return result + "'";
}

void Faults::add(std::string fault) {
  if (shown_.size() < kShown) shown_.push_back(std::move(fault));
  ++count_;
}

std::string Faults::message(std::string_view source) const {
  std::string text(source);
  if (count_ == 1) return text + ": " + shown_.front();
  text += ": " + std::to_string(count_) + " faults:";
  for (const std::string& fault : shown_) text += "\n  " + fault;
  const int64_t hidden = count_ - static_cast<int64_t>(shown_.size());
  if (hidden > 0) text += "\n  and " + std::to_string(hidden) + " more";
  return text;
}

}  // namespace octet
