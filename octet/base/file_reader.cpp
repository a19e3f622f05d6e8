// SPDX-License-Identifier: Apache-2.0
#include "octet/base/file_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "a socket";
}

}  // namespace

FileReader::FileReader(std::filesystem::path path) : path_(std::move(path)) {
  // O_NONBLOCK: the opening of a named pipe would wait for a writer.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) throw FormatError(path_.string() + ": cannot be opened: " + system_reason(errno));
  struct stat status = {};
  std::string fault;
  if (::fstat(fd_, &status) != 0) {
    fault = "cannot be examined: " + system_reason(errno);
  } else if (!S_ISREG(status.st_mode)) {
    fault = "expected a regular file, found " + kind_of(status.st_mode);
  }
  if (!fault.empty()) {
    ::close(fd_);
    throw FormatError(path_.string() + ": " + fault);
  }
  size_ = status.st_size;
}

FileReader::~FileReader() {
  if (fd_ >= 0) ::close(fd_);
}

FileReader::FileReader(FileReader&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(std::exchange(other.size_, 0)) {}

FileReader& FileReader::operator=(FileReader&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

int FileReader::open_again(int flags) const noexcept {
  constexpr std::string_view kFolder = "/proc/self/fd/";
  std::array<char, 40> path{};
  std::copy(kFolder.begin(), kFolder.end(), path.begin());
  std::to_chars(path.data() + kFolder.size(), path.data() + path.size() - 1, fd_);
  return ::open(path.data(), O_CLOEXEC | flags);
}

void FileReader::read_at(int64_t offset, std::span<std::byte> into) const {
  check(offset >= 0, "a file is read from a negative offset");
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        ::pread(fd_, into.data() + done, into.size() - done, offset + static_cast<int64_t>(done));
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0) {
      throw FormatError(path_.string() + ": the file is cut short: expected " + std::to_string(into.size()) +
                        " bytes at offset " + std::to_string(offset) + ", found " + std::to_string(done));
    } else if (errno != EINTR) {
      throw FormatError(path_.string() + ": reading " + std::to_string(into.size()) + " bytes at offset " +
                        std::to_string(offset) + " failed: " + system_reason(errno));
    }
  }
}

void FileReader::will_need(int64_t offset, int64_t length) const {
  if (length > 0) (void)::posix_fadvise(fd_, offset, length, POSIX_FADV_WILLNEED);
}

void FileReader::drop_cache(int64_t offset, int64_t length) const {
  // Advice: a file system that cannot follow it loses nothing. A length of 0 would mean "to the end".
  if (length > 0) (void)::posix_fadvise(fd_, offset, length, POSIX_FADV_DONTNEED);
}

std::string read_text_file(const std::filesystem::path& path, int64_t limit) {
  const FileReader file(path);
  if (file.size() > limit) {
    throw FormatError(path.string() + ": expected at most " + std::to_string(limit) + " bytes, found " +
                      std::to_string(file.size()));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace octet
