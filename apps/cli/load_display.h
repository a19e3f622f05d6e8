// SPDX-License-Identifier: Apache-2.0
/// How far a load has come: a bar on a terminal, some lines elsewhere.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "apps/cli/console.h"
#include "octet/base/progress.h"

namespace octet::cli {

class LoadDisplay {
 public:
  /// `what` is done to the bytes: "loading".
  explicit LoadDisplay(const Console& console, std::string what = "loading")
      : console_(console), what_(std::move(what)) {}
  ~LoadDisplay();
  LoadDisplay(const LoadDisplay&) = delete;
  LoadDisplay& operator=(const LoadDisplay&) = delete;

  /// Call often; shows something now and then.
  void update(const LoadProgress& progress);
  /// Removes the bar, so that other lines can be written.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void show_bar(const LoadProgress& progress);
  void show_line(const LoadProgress& progress);
  [[nodiscard]] std::string figures(const LoadProgress& progress) const;

  const Console& console_;
  std::string what_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point shown_;
  bool bar_ = false;
  bool begun_ = false;
  int quarter_ = -1;
};

/// For work without bytes: a share from 0 to 1.
class ShareDisplay {
 public:
  ShareDisplay(const Console& console, std::string what) : console_(console), what_(std::move(what)) {}
  ~ShareDisplay();
  ShareDisplay(const ShareDisplay&) = delete;
  ShareDisplay& operator=(const ShareDisplay&) = delete;
  void update(double share);

 private:
  const Console& console_;
  std::string what_;
  int percent_ = -1;
};

}  // namespace octet::cli
