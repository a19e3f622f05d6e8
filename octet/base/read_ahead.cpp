// SPDX-License-Identifier: Apache-2.0
#include "octet/base/read_ahead.h"

#include <algorithm>
#include <memory>
#include <system_error>
#include <utility>

namespace octet {

ReadAhead::ReadAhead(std::vector<FileExtent> extents, int64_t window, Fetch fetch)
    : extents_(std::move(extents)), window_(window), fetch_(std::move(fetch)) {
  if (extents_.empty() || window_ <= 0) return;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {  // readers do without
  }
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

ReadAhead::Fetch ReadAhead::pages() {
  return [fetcher = std::make_shared<PageFetcher>()](const FileExtent& part) { fetcher->fetch(part); };
}

void ReadAhead::reached(int64_t position) {
  {
    const std::lock_guard lock(mutex_);
    if (position <= reached_) return;
    reached_ = position;
  }
  changed_.notify_one();
}

std::optional<int64_t> ReadAhead::next(int64_t position) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ended_ || position < reached_ + window_; });
  if (ended_) return std::nullopt;
  return std::max(position, reached_);
}

void ReadAhead::run() {
  int64_t first = 0;
  for (const FileExtent& extent : extents_) {
    if (!fetch_extent(extent, first)) return;
    first += extent.length;
  }
}

bool ReadAhead::fetch_extent(const FileExtent& extent, int64_t first) {
  for (int64_t done = 0; done < extent.length;) {
    const std::optional<int64_t> position = next(first + done);
    if (!position) return false;
    done = *position - first;
    if (done >= extent.length) return true;
    const int64_t offset = extent.offset + done;
    const int64_t length = std::min(extent.length - done, kPart - offset % kPart);
    fetch_({.file = extent.file, .offset = offset, .length = length});
    done += length;
  }
  return true;
}

}  // namespace octet
