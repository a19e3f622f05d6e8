// SPDX-License-Identifier: Apache-2.0
/// Keeps what will be read next in the page cache, on a thread that does nothing but wait for the disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "octet/base/file_reader.h"

namespace octet {

/// Fetches extents one after the other, as far as a window beyond its readers, who wait for it: so the disk
/// sees one stream. Positions count the bytes of all extents in their order, as if they lay on one line. What
/// cannot be fetched readers find out themselves.
class ReadAhead {
 public:
  /// Brings a part of an extent into the page cache; called from one thread.
  using Fetch = std::function<void(const FileExtent&)>;

  /// The files must stay open until the end. `window` is in bytes. Where no thread can be had nothing is
  /// fetched, and nobody waits.
  ReadAhead(std::vector<FileExtent> extents, int64_t window, Fetch fetch = pages());
  /// Waits for the part that is being fetched, and for no more.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// Somebody is about to read positions [begin, end): returns when they have been fetched, as far as a
  /// window from the furthest `begin` of all reaches. From any thread, in any order.
  void wait_for(int64_t begin, int64_t end);

  /// What is fetched at a time, at most: between multiples of it in the file.
  static constexpr int64_t kPart = int64_t{8} << 20;

 private:
  static Fetch pages();
  void run();
  bool fetch_extent(const FileExtent& extent, int64_t first);
  /// All before `position` is fetched. Waits for its turn; false: end.
  bool go_on(int64_t position);

  std::vector<FileExtent> extents_;
  int64_t window_ = 0;
  Fetch fetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t reached_ = 0;  // by the furthest reader
  int64_t fetched_ = 0;
  bool ended_ = false;  // nothing more will be fetched
  std::thread thread_;
};

}  // namespace octet
