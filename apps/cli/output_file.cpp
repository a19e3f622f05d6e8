// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "octet/base/error.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

bool is_special(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  return fs::exists(status) && !fs::is_regular_file(status);
}

/// The file a link leads to: renaming over the link itself would cut it.
fs::path link_target(const fs::path& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  fs::path target = fs::weakly_canonical(path, error);
  return error ? path : target;
}

/// As open(2) would make a new file; an existing one keeps its own.
mode_t mode_for(const fs::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0) return status.st_mode & 07777U;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return 0666U & ~mask;
}

}  // namespace

OutputFile::OutputFile(const fs::path& path) : path_(link_target(path)) {
  if (fs::is_directory(path_))
    throw DeviceError(path_.string() + ": cannot write: it is a folder; give the name of a file");
  if (is_special(path_)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("open for writing");
    return;
  }
  std::string name = path_.string() + ".XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail("create a file there");
  temporary_ = name;
  (void)::fchmod(descriptor_, mode_for(path_));
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::fail(const char* action) const {
  const std::string reason = std::strerror(errno);
  throw DeviceError(path_.string() + ": cannot " + action + ": " + reason);
}

void OutputFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

void OutputFile::commit() {
  // Not every file can be synchronised (a device cannot); a disk that fails says EIO or ENOSPC.
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) fail("write");
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("write");
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace");
  temporary_.clear();
}

void check_writable(const fs::path& path) {
  const OutputFile probe(path);
}

}  // namespace octet::cli
