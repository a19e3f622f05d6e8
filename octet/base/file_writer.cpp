// SPDX-License-Identifier: Apache-2.0
#include "octet/base/file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "octet/base/error.h"

namespace octet {

FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    temporary_ = path_;
    temporary_ += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ >= 0 || errno != EEXIST) break;
  }
  if (fd_ >= 0) return;
  const int error = errno;
  temporary_.clear();
  throw DeviceError(path_.string() + ": cannot be written: " + system_reason(error));
}

FileWriter::~FileWriter() {
  discard();
}

void FileWriter::write_at(int64_t offset, std::span<const std::byte> bytes) {
  check(fd_ >= 0 && offset >= 0, "bytes for a file that is finished or failed");
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (put > 0) {
      bytes = bytes.subspan(static_cast<size_t>(put));
      offset += put;
    } else if (put == 0 || errno != EINTR) {
      throw DeviceError(path_.string() + ": writing failed: " + system_reason(put == 0 ? ENOSPC : errno) +
                        "; nothing was left behind");
    }
  }
}

void FileWriter::start_writeback(int64_t offset, int64_t length) const {
  (void)::sync_file_range(fd_, offset, length, SYNC_FILE_RANGE_WRITE);
}

void FileWriter::commit() {
  check(fd_ >= 0, "a file is finished twice or after it failed");
  const bool synced = ::fsync(fd_) == 0;
  const int sync_error = errno;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced || !closed) {
    const int error = synced ? errno : sync_error;
    discard();
    throw DeviceError(path_.string() + ": writing failed: " + system_reason(error) +
                      "; nothing was left behind");
  }
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) {
    discard();
    throw DeviceError(path_.string() + ": cannot be put in place: " + error.message());
  }
  temporary_.clear();
  sync_folder(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
}

void FileWriter::discard() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void sync_folder(const std::filesystem::path& folder) noexcept {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)::fsync(fd);
  ::close(fd);
}

}  // namespace octet
