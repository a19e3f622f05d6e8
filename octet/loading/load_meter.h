// SPDX-License-Identifier: Apache-2.0
/// What a load tells of itself while it runs: bytes read, memory held over time, and whether it should stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "octet/base/clock.h"
#include "octet/base/progress.h"
#include "octet/core/memory_ledger.h"

namespace octet {

/// Memory held by the ledger, `seconds` after the load began.
struct MemorySample {
  double seconds = 0;
  int64_t bytes = 0;
};

/// `add_read` and `cancelled` may be called from any thread; the callback runs on the thread that made the
/// meter.
class LoadMeter {
 public:
  LoadMeter(const MemoryLedger& ledger, LoadProgressCallback callback, int64_t bytes_total,
            int64_t planned_peak_bytes);

  void add_read(int64_t bytes) { read_.fetch_add(bytes, std::memory_order_relaxed); }
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  /// Reports when the last report is some time ago; does nothing on other threads than the loading one.
  void tick();
  /// Reports now.
  void report();

  [[nodiscard]] int64_t read_bytes() const { return read_.load(std::memory_order_relaxed); }
  [[nodiscard]] double seconds() const;
  /// At most some hundred samples, however long the load took.
  [[nodiscard]] const std::vector<MemorySample>& timeline() const { return timeline_; }

 private:
  void sample();

  const MemoryLedger& ledger_;
  LoadProgressCallback callback_;
  LoadProgress progress_;
  std::thread::id thread_ = std::this_thread::get_id();
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_report_ = start_;
  std::vector<MemorySample> timeline_;
  double sample_interval_ = 0;
  std::atomic<int64_t> read_{0};
  std::atomic<bool> cancelled_{false};
};

}  // namespace octet
