// SPDX-License-Identifier: Apache-2.0
#include "octet/base/output_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <new>
#include <string>
#include <system_error>

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

std::string mebibytes(uintmax_t bytes) {
  return std::to_string((bytes + (1U << 20U) - 1) >> 20U) + " MiB";
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target, Existing existing) : target_(resolved(target)) {
  check_target(existing);
  const fs::path staging = target_.string() + ".incomplete-" + std::to_string(::getpid());
  if (::mkdir(staging.c_str(), 0777) != 0) {
    throw DeviceError(target_.string() + ": cannot be written: " + staging.string() + ": " +
                      std::generic_category().message(errno));
  }
  staging_ = staging;
}

OutputFolder::~OutputFolder() {
  if (!staging_.empty()) remove_folder(staging_);
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
  if (!fs::exists(target_ / "config.json", error)) {
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
      throw DeviceError(target_.string() +
                        ": cannot be put in place: " + std::generic_category().message(errno));
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
    throw DeviceError(target_.string() + ": cannot be replaced: " + std::generic_category().message(errno));
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
