// SPDX-License-Identifier: Apache-2.0
/// Keeps what will be read next in the page cache, on a thread that does nothing but wait for the disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "octet/base/page_fetcher.h"

namespace octet {

/// Fetches extents one after the other, as far as a window beyond its readers. Positions count the bytes of
/// all extents in their order, as if they lay on one line. It is advice: readers need not wait for it, and
/// find out themselves what cannot be read.
class ReadAhead {
 public:
  /// Brings a part of an extent into the page cache; called from one thread.
  using Fetch = std::function<void(const FileExtent&)>;

  /// The files must stay open until the end. `window` is in bytes. Without memory for a thread, nothing is
  /// fetched.
  ReadAhead(std::vector<FileExtent> extents, int64_t window, Fetch fetch = pages());
  /// Waits for the part that is being fetched, and for no more.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// Somebody begins to read at `position`; what lies before it is not fetched any more. From any thread, in
  /// any order: the furthest counts.
  void reached(int64_t position);

  /// What is fetched at a time, at most: between multiples of it in the file.
  static constexpr int64_t kPart = int64_t{2} << 20;

 private:
  static Fetch pages();
  void run();
  bool fetch_extent(const FileExtent& extent, int64_t first);
  /// Where to go on: `position`, or where readers are beyond it, once that is within the window; nullopt:
  /// end.
  std::optional<int64_t> next(int64_t position);

  std::vector<FileExtent> extents_;
  int64_t window_ = 0;
  Fetch fetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t reached_ = 0;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace octet
