// SPDX-License-Identifier: Apache-2.0
#include "octet/base/page_fetcher.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace octet {
namespace {

constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ of Linux 5.14, which older headers lack

/// False where the kernel cannot do it for any part of this file. With the advice the cache is filled in
/// pages of 2 MiB, two at a time at the least, where the file system can; nothing but time is lost where it
/// is refused.
bool populate(int fd, int64_t begin, int64_t end) {
  const auto length = static_cast<size_t>(end - begin);
  void* pages = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, begin);
  if (pages == MAP_FAILED) return false;
  (void)::madvise(pages, length, MADV_HUGEPAGE);
  const bool known = ::madvise(pages, length, kPopulateRead) == 0 || errno != EINVAL;
  ::munmap(pages, length);
  return known;
}

/// Of the files of others mincore(2) says that all is there, whatever is.
bool is_told_of(const FileReader& file) {
  struct stat status = {};
  if (::fstat(file.descriptor(), &status) != 0) return false;
  const uid_t user = ::geteuid();
  if (user == 0 || user == status.st_uid) return true;
  const int writable = file.open_again(O_WRONLY);
  if (writable >= 0) ::close(writable);
  return writable >= 0;
}

}  // namespace

PageFetcher::~PageFetcher() {
  close();
}

void PageFetcher::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void PageFetcher::open(const FileReader& file) noexcept {
  close();
  file_ = &file;
  fd_ = file.open_again(O_RDONLY);
  if (fd_ >= 0) (void)::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

void PageFetcher::fetch(const FileExtent& part) noexcept {
  if (part.file != file_) open(*part.file);
  struct stat status = {};
  const bool told = fd_ >= 0 && ::fstat(fd_, &status) == 0;
  const int64_t end = std::min(part.offset + part.length, told ? int64_t{status.st_size} : part.file->size());
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t begin = part.offset / page * page;
  if (end <= begin) return;
  if (fd_ < 0 || !populate(fd_, begin, end)) part.file->will_need(part.offset, end - part.offset);
}

int64_t cached_bytes(const FileExtent& part) noexcept {
  if (!is_told_of(*part.file)) return 0;
  std::array<unsigned char, 1024> marks{};
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t last = part.offset + part.length;
  int64_t cached = 0;
  for (int64_t begin = part.offset / page * page; begin < last;) {
    const int64_t end = std::min(last, begin + page * static_cast<int64_t>(marks.size()));
    const auto length = static_cast<size_t>(end - begin);
    void* pages = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, part.file->descriptor(), begin);
    if (pages == MAP_FAILED) return 0;
    const bool told = ::mincore(pages, length, marks.data()) == 0;
    ::munmap(pages, length);
    if (!told) return 0;
    for (int64_t at = begin; at < end; at += page) {
      if ((marks[static_cast<size_t>((at - begin) / page)] & 1) != 0)
        cached += std::min(end, at + page) - std::max(part.offset, at);
    }
    begin = end;
  }
  return cached;
}

}  // namespace octet
