// SPDX-License-Identifier: Apache-2.0
/// A file that is written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace octet {

/// The file appears under its name, whole, when commit() returns; until then it has a temporary name in the
/// same folder, and is removed if the writer is destroyed first. A file that was there before is replaced
/// only then. Neither copied nor moved. `write_at` may be called from several threads at once, the rest from
/// one.
class FileWriter {
 public:
  /// Throws DeviceError when the file cannot be made.
  explicit FileWriter(std::filesystem::path path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// False after commit() and after discard().
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }

  /// Writes all of `bytes` at byte `offset`. Throws DeviceError when the disk is full or fails.
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  /// Has the system begin to bring these bytes to the disk, so that commit() waits less. Advice only.
  void start_writeback(int64_t offset, int64_t length) const;
  /// Makes the file durable and puts it in place. Throws DeviceError, and then nothing is left behind.
  void commit();
  /// Removes what was written.
  void discard() noexcept;

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
};

/// Makes the entries of a folder durable, where its file system can.
void sync_folder(const std::filesystem::path& folder) noexcept;

}  // namespace octet
