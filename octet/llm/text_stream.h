// SPDX-License-Identifier: Apache-2.0
/// Text on its way to a reader: what might still become a stop string is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace octet {

class StopStrings {
 public:
  /// Throws ArgumentError when one is empty.
  explicit StopStrings(std::vector<std::string> stops);

  /// Takes more text and returns what no stop string can touch any more. After a stop string has been found
  /// (`stopped()`), that is all text before it, and later text is dropped.
  [[nodiscard]] std::string push(std::string_view text);
  /// The text held back, when nothing more will come.
  [[nodiscard]] std::string finish();
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  [[nodiscard]] size_t held_bytes() const;

  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace octet
