// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_meter.h"

#include <utility>

namespace octet {
namespace {

constexpr std::chrono::milliseconds kBetweenReports{40};
constexpr size_t kMostSamples = 512;

}  // namespace

LoadMeter::LoadMeter(const MemoryLedger& ledger, LoadProgressCallback callback, int64_t bytes_total,
                     int64_t planned_peak_bytes)
    : ledger_(ledger), callback_(std::move(callback)) {
  progress_.bytes_total = bytes_total;
  progress_.planned_peak_bytes = planned_peak_bytes;
}

double LoadMeter::seconds() const {
  return seconds_since(start_);
}

void LoadMeter::tick() {
  if (std::this_thread::get_id() == thread_ && Clock::now() - last_report_ >= kBetweenReports) report();
}

void LoadMeter::report() {
  last_report_ = Clock::now();
  sample();
  if (!callback_) return;
  progress_.bytes_read = read_bytes();
  progress_.memory_bytes = ledger_.current();
  if (!callback_(progress_)) cancelled_.store(true, std::memory_order_relaxed);
}

// When the list is full every second sample goes and the interval doubles, so that it never grows past its
// bound.
void LoadMeter::sample() {
  const double now = seconds();
  if (!timeline_.empty() && now - timeline_.back().seconds < sample_interval_) return;
  timeline_.push_back({.seconds = now, .bytes = ledger_.current()});
  if (timeline_.size() < kMostSamples) return;
  std::vector<MemorySample> kept;
  for (size_t i = 0; i < timeline_.size(); i += 2) kept.push_back(timeline_[i]);
  timeline_ = std::move(kept);
  sample_interval_ = 2 * now / static_cast<double>(kMostSamples);
}

}  // namespace octet
