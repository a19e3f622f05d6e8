// SPDX-License-Identifier: Apache-2.0
/// Where the members of a zip archive lie in its file. Nothing is unpacked: members that are compressed or
/// encrypted are refused when they are asked for.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "octet/base/file_reader.h"

namespace octet {

struct ZipMember {
  int64_t header = 0;  ///< of its own header, from the beginning of the file
  int64_t bytes = 0;   ///< unpacked
  int64_t stored = 0;  ///< in the file
  int method = 0;      ///< 0: as it is
  bool encrypted = false;
};

struct ZipExtent {
  int64_t offset = 0;  ///< of the first byte, from the beginning of the file
  int64_t bytes = 0;
};

class ZipDirectory {
 public:
  /// Reads the directory at the end of `file`, with 64-bit sizes where it has them. Throws FormatError when
  /// it is missing, cut short, spread over several files, or names a member twice. `file` must outlive this.
  explicit ZipDirectory(const FileReader& file);

  [[nodiscard]] const std::map<std::string, ZipMember>& members() const { return members_; }
  /// Where the bytes of a member lie. Throws FormatError when there is none of that name, when it is
  /// compressed or encrypted, and when it leaves the file.
  [[nodiscard]] ZipExtent locate(const std::string& name) const;

 private:
  [[noreturn]] void fail(const std::string& what) const;
  void read_members(int64_t begin, int64_t bytes, int64_t count);

  const FileReader& file_;
  std::map<std::string, ZipMember> members_;
};

}  // namespace octet
