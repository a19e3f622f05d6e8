// SPDX-License-Identifier: Apache-2.0
/// Faults of one file or model, collected so that they are reported together, and names made fit for a
/// message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// `text` in single quotes, cut to `limit` bytes and with control and non-ASCII bytes escaped: what a file
/// calls itself may be megabytes long or steer a terminal.
[[nodiscard]] std::string quote(std::string_view text, size_t limit = 100);

/// Keeps the first faults and counts the rest. Not thread-safe.
class Faults {
 public:
  static constexpr size_t kShown = 10;

  void add(std::string fault);
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] int64_t count() const { return count_; }
  /// "<source>: <fault>", or "<source>: 12 faults:" and a line for each of the first ten and for how many
  /// follow.
  [[nodiscard]] std::string message(std::string_view source) const;
  /// Throws E(message(source)) if there is any.
  template <class E>
  void throw_if_any(std::string_view source) const {
    if (!empty()) throw E(message(source));
  }

 private:
  std::vector<std::string> shown_;
  int64_t count_ = 0;
};

}  // namespace octet
