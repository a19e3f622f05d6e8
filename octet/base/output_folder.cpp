// SPDX-License-Identifier: Apache-2.0
#include "octet/base/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/file_writer.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

/// Absolute, without a slash at its end, through links: so that "beside it" is on the same disk.
fs::path resolved(const fs::path& target) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(target, error), error);
  if (error) throw DeviceError(target.string() + ": cannot be written: " + error.message());
  return path.has_filename() ? path : path.parent_path();
}

/// Removing takes memory itself, and comes also when memory has ended: what was freed since then may do.
void remove_folder(const fs::path& folder) noexcept {
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      std::error_code ignored;
      fs::remove_all(folder, ignored);
      return;
    } catch (const std::bad_alloc&) {
      continue;
    }
  }
}

constexpr std::string_view kMark = ".incomplete-";

/// Whether `name` is that of a folder in which a process prepares, or prepared, the folder `target`.
bool is_staging_of(std::string_view name, std::string_view target) {
  if (!name.starts_with(target)) return false;
  name.remove_prefix(target.size());
  if (!name.starts_with(kMark)) return false;
  name.remove_prefix(kMark.size());
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Opens a folder and locks it until the descriptor is closed or the process ends. -1 with EWOULDBLOCK in
/// `errno` where another holds the lock.
int lock_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

/// Whether flock() failed because this file system has no locks for folders.
bool cannot_lock(int error) {
  return error == ENOLCK || error == EOPNOTSUPP || error == EBADF || error == EINVAL || error == ENOSYS;
}

/// Whether `path` is still the folder behind `fd`.
bool is_open_at(int fd, const fs::path& path) {
  struct stat opened = {};
  struct stat named = {};
  return ::fstat(fd, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

std::string mebibytes(uintmax_t bytes) {
  return std::to_string((bytes + (1U << 20U) - 1) >> 20U) + " MiB";
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target, Existing existing) : target_(resolved(target)) {
  check_target(existing);
  remove_leftovers();
  make_staging();
}

OutputFolder::~OutputFolder() {
  if (!staging_.empty()) remove_folder(staging_);
  if (lock_ >= 0) ::close(lock_);
}

/// The system gives the lock of a process back when it ends, however it ends; numbers of processes are used
/// again and mean nothing in another container.
void OutputFolder::remove_leftovers() {
  const std::string name = target_.filename().string();
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator it(target_.parent_path(), error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    if (is_staging_of(it->path().filename().string(), name)) found.push_back(it->path());
  }
  for (const fs::path& path : found) {
    const int lock = lock_folder(path);
    if (lock < 0) continue;
    const bool there = is_open_at(lock, path);  // its process may just have put it in place
    if (there) remove_folder(path);
    ::close(lock);
    if (there && !fs::exists(fs::symlink_status(path, error))) removed_.push_back(path);
  }
}

/// Between making and locking, another process may take the folder for a leftover: then it is made again.
void OutputFolder::make_staging() {
  constexpr int kAttempts = 1000;
  const fs::path staging = target_.string() + std::string(kMark) + std::to_string(::getpid());
  int error = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (::mkdir(staging.c_str(), 0777) == 0) {
      lock_ = lock_folder(staging);
      error = lock_ >= 0 ? (is_open_at(lock_, staging) ? 0 : ENOENT) : errno;
      // Where folders cannot be locked, nobody takes one for a leftover.
      if (error == 0 || cannot_lock(error)) {
        staging_ = staging;
        return;
      }
      if (lock_ >= 0) ::close(std::exchange(lock_, -1));
      if (error != EWOULDBLOCK && error != ENOENT) {
        ::rmdir(staging.c_str());
        break;
      }
    } else {
      error = errno;
      if (attempt == 0 || error != EEXIST) break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw DeviceError(target_.string() + ": cannot be written: " + staging.string() + ": " +
                    system_reason(error));
}

void OutputFolder::check_target(Existing existing) const {
  std::error_code error;
  const fs::file_status status = fs::status(target_, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw ArgumentError(target_.string() + ": expected the name of a folder, found a file");
  const bool empty = fs::is_empty(target_, error);
  if (error) throw DeviceError(target_.string() + ": cannot be read: " + error.message());
  if (empty) return;
  if (existing == Existing::kRefuse) {
    throw ArgumentError(
        target_.string() +
        ": the folder is there already and is not empty; name another, or replace a model with "
        "--overwrite");
  }
  if (!fs::exists(target_ / "config.json", error) && !fs::exists(target_ / "params.json", error)) {
    throw ArgumentError(
        target_.string() +
        ": only the folder of a model is replaced, and this one has no config.json; name another");
  }
}

void OutputFolder::require_space(int64_t bytes) const {
  std::error_code error;
  const fs::space_info space = fs::space(staging_, error);
  if (error || space.available >= static_cast<uintmax_t>(bytes)) return;
  throw DeviceError(target_.string() + ": needs " + mebibytes(static_cast<uintmax_t>(bytes)) +
                    " on the disk, but only " + mebibytes(space.available) + " are free");
}

void OutputFolder::commit() {
  check(!staging_.empty(), "a folder is put in place twice");
  sync_folder(staging_);
  // Renaming over an empty folder replaces it; ENOTEMPTY says that there is something to exchange.
  if (std::rename(staging_.c_str(), target_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) {
      throw DeviceError(target_.string() + ": cannot be put in place: " + system_reason(errno));
    }
    replace_existing();
    remove_folder(staging_);  // holds what was there before
  }
  staging_.clear();
  sync_folder(target_.parent_path());
}

void OutputFolder::replace_existing() {
  if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) {
    throw DeviceError(target_.string() + ": cannot be replaced: " + system_reason(errno));
  }
  // A file system that cannot exchange two names: for a moment the target is not there.
  const fs::path aside = staging_.string() + ".old";
  std::error_code error;
  fs::rename(target_, aside, error);
  if (!error) fs::rename(staging_, target_, error);
  if (error) {
    std::error_code ignored;
    if (!fs::exists(target_, ignored)) fs::rename(aside, target_, ignored);
    throw DeviceError(target_.string() + ": cannot be replaced: " + error.message());
  }
  fs::rename(aside, staging_, error);
  if (error) staging_ = aside;
}

}  // namespace octet
