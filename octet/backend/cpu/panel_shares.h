// SPDX-License-Identifier: Apache-2.0
/// Which thread takes which panels of a matrix that is read once.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace octet {

/// Each thread walks through a contiguous share of its own, so that what it asks of the memory ahead is what
/// it reads next; who is through takes from the end of the share with most left. Which thread takes a panel
/// is left to chance, that each is taken once is not.
class PanelShares {
 public:
  explicit PanelShares(int threads) : shares_(static_cast<size_t>(threads)) {}

  /// Panels [0, panels) anew, before the threads start.
  void deal(int64_t panels) {
    const auto count = static_cast<int64_t>(shares_.size());
    for (int64_t i = 0; i < count; ++i)
      shares_[static_cast<size_t>(i)].range.store(pack(panels * i / count, panels * (i + 1) / count),
                                                  std::memory_order_relaxed);
  }
  /// The next panel for the thread whose share is `own`, or -1 when none is left. From any thread.
  [[nodiscard]] int64_t take(int64_t own) {
    Share* from = &shares_[static_cast<size_t>(own)];
    uint64_t range = from->range.load(std::memory_order_relaxed);
    while (left(range) > 0) {
      if (from->range.compare_exchange_weak(range, range + 1, std::memory_order_relaxed)) return begin(range);
    }
    while ((from = fullest()) != nullptr) {
      range = from->range.load(std::memory_order_relaxed);
      if (left(range) > 0 &&
          from->range.compare_exchange_weak(range, range - kEnd, std::memory_order_relaxed))
        return end(range) - 1;
    }
    return -1;
  }

 private:
  /// The first panel that is left in the lower half, the one after the last in the upper one.
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};
  };
  static constexpr uint64_t kEnd = uint64_t{1} << 32;

  static uint64_t pack(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) + kEnd * static_cast<uint64_t>(end);
  }
  static int64_t begin(uint64_t range) { return static_cast<int64_t>(range % kEnd); }
  static int64_t end(uint64_t range) { return static_cast<int64_t>(range / kEnd); }
  static int64_t left(uint64_t range) { return end(range) - begin(range); }

  Share* fullest() {
    Share* found = nullptr;
    int64_t most = 0;
    for (Share& share : shares_) {
      const int64_t here = left(share.range.load(std::memory_order_relaxed));
      if (here <= most) continue;
      found = &share;
      most = here;
    }
    return found;
  }

  std::vector<Share> shares_;
};

}  // namespace octet
