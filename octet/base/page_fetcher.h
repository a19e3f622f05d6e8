// SPDX-License-Identifier: Apache-2.0
/// Brings parts of files into the page cache, and waits for the disk so that others need not.
#pragma once

#include <cstdint>

#include "octet/base/file_reader.h"

namespace octet {

/// For one thread. It has the kernel fetch pages as for a mapping of them, which takes large pages of the
/// cache and continues a sequential look-ahead; advice (`FileReader::will_need`) fills the cache page by page
/// of 4 KiB, at twice the time of the processor. Nothing is read through the mapping, so that a file cut
/// short or a failing disk is no signal.
class PageFetcher {
 public:
  PageFetcher() = default;
  ~PageFetcher();
  PageFetcher(const PageFetcher&) = delete;
  PageFetcher& operator=(const PageFetcher&) = delete;

  /// Returns when these bytes are in the page cache, or cannot be had, which is for whoever reads them to
  /// report. What lies behind the end of the file is passed over. Where the kernel does not know how to, it
  /// is advice. The file must stay open until the next call with another one, or the end.
  void fetch(const FileExtent& part) noexcept;

 private:
  void open(const FileReader& file) noexcept;
  void close() noexcept;

  const FileReader* file_ = nullptr;
  int fd_ = -1;  // a description of its own, so that readers do not disturb its look-ahead
};

/// How many of these bytes are in the page cache, to a page. None where the kernel does not tell, as of
/// a file that this process may not write and whose owner it is not.
[[nodiscard]] int64_t cached_bytes(const FileExtent& part) noexcept;

}  // namespace octet
