// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/load_display.h"

#include <algorithm>

#include "apps/cli/format.h"

namespace octet::cli {
namespace {

constexpr int kBarWidth = 24;
constexpr std::string_view kClearLine = "\r\033[K";

std::string bar(double share) {
  const int full = std::clamp(static_cast<int>(share * kBarWidth), 0, kBarWidth);
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(kBarWidth - full), '.') + "]";
}

double share_of(const LoadProgress& progress) {
  if (progress.bytes_total <= 0) return 1;
  return static_cast<double>(progress.bytes_read) / static_cast<double>(progress.bytes_total);
}

std::string percent(double share) {
  return std::to_string(std::clamp(static_cast<int>(share * 100), 0, 100)) + " %";
}

}  // namespace

LoadDisplay::~LoadDisplay() {
  clear();
}

void LoadDisplay::clear() {
  if (bar_) console_.show(kClearLine);
  bar_ = false;
}

std::string LoadDisplay::figures(const LoadProgress& progress) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  return format_bytes(progress.bytes_read) + " of " + format_bytes(progress.bytes_total) + ", " +
         format_rate(static_cast<double>(progress.bytes_read) / 1e9, seconds) + " GB/s, memory " +
         format_bytes(progress.memory_bytes) + " of " + format_bytes(progress.planned_peak_bytes) +
         " planned";
}

void LoadDisplay::show_bar(const LoadProgress& progress) {
  const double share = share_of(progress);
  if (bar_ && Clock::now() - shown_ < std::chrono::milliseconds(100)) return;
  shown_ = Clock::now();
  bar_ = true;
  console_.show(std::string(kClearLine) + what_ + " " + bar(share) + " " + percent(share) + "  " +
                figures(progress));
}

void LoadDisplay::show_line(const LoadProgress& progress) {
  const double share = share_of(progress);
  const int quarter = static_cast<int>(share * 4);
  const bool late = Clock::now() - shown_ > std::chrono::seconds(5);
  if (quarter <= quarter_ && !late) return;
  quarter_ = std::max(quarter_, quarter);
  shown_ = Clock::now();
  console_.note(what_ + " " + percent(share) + "  " + figures(progress));
}

void LoadDisplay::update(const LoadProgress& progress) {
  if (console_.is_quiet()) return;
  if (!begun_) start_ = Clock::now();
  begun_ = true;
  if (console_.is_terminal()) {
    show_bar(progress);
  } else {
    show_line(progress);
  }
}

ShareDisplay::~ShareDisplay() {
  if (percent_ >= 0 && console_.is_terminal()) console_.show(kClearLine);
}

void ShareDisplay::update(double share) {
  const int percent = std::clamp(static_cast<int>(share * 100), 0, 100);
  const int step = console_.is_terminal() ? 1 : 25;
  if (percent_ >= 0 && percent / step == percent_ / step) return;
  percent_ = percent;
  const std::string line = what_ + " " + std::to_string(percent) + " %";
  if (console_.is_terminal()) {
    console_.show(std::string(kClearLine) + line);
  } else {
    console_.note(line);
  }
}

}  // namespace octet::cli
