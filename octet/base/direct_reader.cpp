// SPDX-License-Identifier: Apache-2.0
#include "octet/base/direct_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace octet {
namespace {

/// As many of these bytes as there are; fewer, where the disk fails. All are multiples of the alignment.
int64_t read_whole(int fd, std::byte* into, int64_t length, int64_t offset) {
  int64_t done = 0;
  while (done < length) {
    const ssize_t got = ::pread(fd, into + done, static_cast<size_t>(length - done), offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += got;
    if (got % DirectReader::kAlignment != 0) break;  // the end of the file
  }
  return done;
}

}  // namespace

DirectReader::~DirectReader() {
  close();
}

void DirectReader::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void DirectReader::open(const FileReader& file) noexcept {
  close();
  file_ = &file;
  fd_ = file.open_again(O_RDONLY | O_DIRECT);
}

std::optional<std::span<const std::byte>> DirectReader::read(const FileExtent& part,
                                                             std::span<std::byte> buffer) noexcept {
  if (part.file != file_) open(*part.file);
  const int64_t begin = part.offset / kAlignment * kAlignment;
  const int64_t skipped = part.offset - begin;
  const int64_t length = round_up(skipped + part.length, kAlignment);
  const bool fits = length <= static_cast<int64_t>(buffer.size()) &&
                    reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment == 0;
  if (fd_ < 0 || !fits) return std::nullopt;
  if (read_whole(fd_, buffer.data(), length, begin) < skipped + part.length) {
    close();
    return std::nullopt;
  }
  return buffer.subspan(static_cast<size_t>(skipped), static_cast<size_t>(part.length));
}

}  // namespace octet
