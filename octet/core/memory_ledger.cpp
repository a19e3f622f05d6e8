// SPDX-License-Identifier: Apache-2.0
#include "octet/core/memory_ledger.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {

void MemoryLedger::add(std::string_view group, int64_t bytes) {
  const std::scoped_lock lock(mutex_);
  auto it = groups_.find(group);
  if (it == groups_.end()) it = groups_.emplace(std::string(group), 0).first;
  it->second += bytes;
  current_ += bytes;
  peak_ = std::max(peak_, current_);
}

void MemoryLedger::remove(std::string_view group, int64_t bytes) {
  const std::scoped_lock lock(mutex_);
  const auto it = groups_.find(group);
  check(it != groups_.end() && it->second >= bytes, "more memory is given back than was taken");
  it->second -= bytes;
  current_ -= bytes;
}

int64_t MemoryLedger::current() const {
  const std::scoped_lock lock(mutex_);
  return current_;
}

int64_t MemoryLedger::current(std::string_view group) const {
  const std::scoped_lock lock(mutex_);
  const auto it = groups_.find(group);
  return it == groups_.end() ? 0 : it->second;
}

int64_t MemoryLedger::peak() const {
  const std::scoped_lock lock(mutex_);
  return peak_;
}

void MemoryLedger::restart_peak() {
  const std::scoped_lock lock(mutex_);
  peak_ = current_;
}

}  // namespace octet
