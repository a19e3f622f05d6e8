// SPDX-License-Identifier: Apache-2.0
/// Reads parts of files past the page cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "octet/base/checked_math.h"
#include "octet/base/file_reader.h"

namespace octet {

/// For one thread. The disk writes where the bytes are wanted: neither pages of the cache are taken for them
/// nor copies made, and what others have in the cache stays there. Coherent with it: bytes that wait there to
/// be written are written first.
class DirectReader {
 public:
  /// Of buffers, and of what is read from a file.
  static constexpr int64_t kAlignment = 4096;
  /// Of a buffer for parts of up to `length` bytes.
  static constexpr int64_t buffer_bytes(int64_t length) { return round_up(length, kAlignment) + kAlignment; }

  DirectReader() = default;
  ~DirectReader();
  DirectReader(const DirectReader&) = delete;
  DirectReader& operator=(const DirectReader&) = delete;

  /// The bytes of a part, which lie somewhere in `buffer`; nullopt where they cannot be had so: the file
  /// system or the disk does not offer it, the file has become shorter, the disk fails, which is all for
  /// `FileReader::read_at` to report. The file must stay open until the next call with another one, or the
  /// end.
  [[nodiscard]] std::optional<std::span<const std::byte>> read(const FileExtent& part,
                                                               std::span<std::byte> buffer) noexcept;

 private:
  void open(const FileReader& file) noexcept;
  void close() noexcept;

  const FileReader* file_ = nullptr;
  int fd_ = -1;  // stays so for a file that was refused
};

}  // namespace octet
