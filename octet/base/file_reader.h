// SPDX-License-Identifier: Apache-2.0
/// Positioned reads of one file. Never maps: a file cut short or a failing disk is an error, not a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace octet {

/// Owns one open file descriptor. Move-only; `read_at` may be called from several threads at once.
class FileReader {
 public:
  /// Throws FormatError when the file is missing, not a regular file, or cannot be opened.
  explicit FileReader(std::filesystem::path path);
  ~FileReader();
  FileReader(FileReader&& other) noexcept;
  FileReader& operator=(FileReader&& other) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Bytes, as they were when the file was opened.
  [[nodiscard]] int64_t size() const { return size_; }
  /// Stays the reader's.
  [[nodiscard]] int descriptor() const { return fd_; }

  /// A second description of the same file, whoever has its name by now, with these flags of
  /// open(2). The caller's to close; -1 where it cannot be had.
  [[nodiscard]] int open_again(int flags) const noexcept;

  /// Fills `into` from byte `offset`. Throws FormatError when the file ends first or the disk fails.
  void read_at(int64_t offset, std::span<std::byte> into) const;

  /// Tells the kernel that these bytes, or most of them, will be read next.
  void will_need(int64_t offset, int64_t length) const;

  /// Tells the kernel that these bytes will not be needed again (drops them from the page cache).
  void drop_cache(int64_t offset, int64_t length) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// Bytes [offset, offset + length) of an open file.
struct FileExtent {
  const FileReader* file = nullptr;
  int64_t offset = 0;
  int64_t length = 0;
};

/// The whole of a small text file (config, index, template). Throws FormatError when it is larger than
/// `limit`.
std::string read_text_file(const std::filesystem::path& path, int64_t limit = int64_t{64} << 20);

}  // namespace octet
