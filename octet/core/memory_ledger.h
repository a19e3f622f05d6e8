// SPDX-License-Identifier: Apache-2.0
/// The account of every large piece of memory that Octet takes: what for, how much now, how much at the most.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace octet {

/// Thread-safe. Buffers enter themselves here; nothing else does.
class MemoryLedger {
 public:
  void add(std::string_view group, int64_t bytes);
  void remove(std::string_view group, int64_t bytes);

  /// Bytes held now, over all groups.
  [[nodiscard]] int64_t current() const;
  /// Bytes held now by one group ("weights", "kv_cache", "workspace", "loading").
  [[nodiscard]] int64_t current(std::string_view group) const;
  /// The largest `current()` since construction or the last `restart_peak()`.
  [[nodiscard]] int64_t peak() const;
  void restart_peak();

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int64_t, std::less<>> groups_;
  int64_t current_ = 0;
  int64_t peak_ = 0;
};

}  // namespace octet
