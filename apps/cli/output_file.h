// SPDX-License-Identifier: Apache-2.0
/// Files that a command writes: whole, or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace octet::cli {

/// Throws DeviceError when `path` cannot be written, before hours of work are spent on what goes there.
void check_writable(const std::filesystem::path& path);

/// Writes beside `path` and takes its place on `commit`; without it, nothing is left behind. A path that is
/// no regular file (a device, a pipe) is written directly.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Throws DeviceError naming the file and the system's reason (a full disk).
  void write(std::string_view bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty: written directly
  int descriptor_ = -1;
};

}  // namespace octet::cli
