// SPDX-License-Identifier: Apache-2.0
#include "octet/base/read_ahead.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <system_error>
#include <utility>

#include "octet/base/page_fetcher.h"

namespace octet {
namespace {

/// As the kernel has it; the C library has no name for it.
struct SchedulingOf {
  uint32_t size = 0;
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // of an ordinary thread: of one turn, nanoseconds
  uint64_t deadline = 0;
  uint64_t period = 0;
};

/// A disk that has answered must be asked anew before others have ended their turns. Kernels before 6.12 know
/// no such wish.
void ask_for_short_turns() {
  SchedulingOf own;
  if (::syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) != 0) return;
  if (own.policy != SCHED_OTHER && own.policy != SCHED_BATCH) return;
  own.runtime = 100'000;
  (void)::syscall(SYS_sched_setattr, 0, &own, 0);
}

}  // namespace

ReadAhead::ReadAhead(std::vector<FileExtent> extents, int64_t window, Fetch fetch)
    : extents_(std::move(extents)), window_(window), fetch_(std::move(fetch)) {
  ended_ = extents_.empty() || window_ <= 0;
  if (ended_) return;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    ended_ = true;
  }
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

ReadAhead::Fetch ReadAhead::pages() {
  return [fetcher = std::make_shared<PageFetcher>()](const FileExtent& part) { fetcher->fetch(part); };
}

void ReadAhead::wait_for(int64_t begin, int64_t end) {
  std::unique_lock lock(mutex_);
  if (begin > reached_) {
    reached_ = begin;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return ended_ || fetched_ >= std::min(end, reached_ + window_); });
}

bool ReadAhead::go_on(int64_t position) {
  std::unique_lock lock(mutex_);
  fetched_ = position;
  changed_.notify_all();
  changed_.wait(lock, [&] { return ended_ || position < reached_ + window_; });
  return !ended_;
}

void ReadAhead::run() {
  ask_for_short_turns();
  int64_t first = 0;
  for (const FileExtent& extent : extents_) {
    if (!fetch_extent(extent, first)) return;
    first += extent.length;
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool ReadAhead::fetch_extent(const FileExtent& extent, int64_t first) {
  for (int64_t done = 0; done < extent.length;) {
    if (!go_on(first + done)) return false;
    const int64_t offset = extent.offset + done;
    const int64_t length = std::min(extent.length - done, kPart - offset % kPart);
    fetch_({.file = extent.file, .offset = offset, .length = length});
    done += length;
  }
  return true;
}

}  // namespace octet
