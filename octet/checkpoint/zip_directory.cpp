// SPDX-License-Identifier: Apache-2.0
// Layouts and signatures as in PKWARE's APPNOTE.
#include "octet/checkpoint/zip_directory.h"

#include <algorithm>
#include <string_view>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr int64_t kEndBytes = 22;
constexpr int64_t kLongestComment = 65535;
constexpr int64_t kLocatorBytes = 20;
constexpr int64_t kEnd64Bytes = 56;
constexpr int64_t kEntryBytes = 46;
constexpr int64_t kHeaderBytes = 30;
constexpr int64_t kLargestDirectory = int64_t{64} << 20;
constexpr uint64_t kNarrow = 0xffffffff;  // in the place of a size that stands in the extra field

/// Little-endian numbers of a piece of the file.
class Record {
 public:
  Record(const FileReader& file, int64_t begin, int64_t bytes)
      : begin_(begin), text_(static_cast<size_t>(bytes), '\0') {
    file.read_at(begin, std::as_writable_bytes(std::span(text_)));
  }
  [[nodiscard]] uint64_t number(int64_t at, int bytes) const {
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
      value = value << 8 | static_cast<uint8_t>(text_.at(static_cast<size_t>(at + i)));
    return value;
  }
  [[nodiscard]] int64_t begin() const { return begin_; }
  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(text_.size()); }
  [[nodiscard]] std::string text(int64_t at, int64_t bytes) const {
    return text_.substr(static_cast<size_t>(at), static_cast<size_t>(bytes));
  }
  [[nodiscard]] const std::string& all() const { return text_; }

 private:
  int64_t begin_;
  std::string text_;
};

/// Beyond what a file can hold: a size that no check lets through.
int64_t size_of(uint64_t value) {
  return value > uint64_t{1} << 62 ? int64_t{1} << 62 : static_cast<int64_t>(value);
}

}  // namespace

void ZipDirectory::fail(const std::string& what) const {
  throw FormatError(file_.path().string() + ": " + what);
}

ZipDirectory::ZipDirectory(const FileReader& file) : file_(file) {
  const int64_t tail_bytes = std::min(file.size(), kEndBytes + kLongestComment);
  const Record tail(file, file.size() - tail_bytes, tail_bytes);
  const size_t found = tail.all().rfind(std::string_view("PK\x05\x06", 4));
  if (found == std::string::npos || tail_bytes - static_cast<int64_t>(found) < kEndBytes)
    fail("the archive has no directory at its end: the file is cut short (fetch it again)");
  const auto end = static_cast<int64_t>(found);
  if (tail.number(end + 4, 2) != tail.number(end + 6, 2)) fail("an archive in several files is not read");
  uint64_t count = tail.number(end + 10, 2);
  uint64_t bytes = tail.number(end + 12, 4);
  uint64_t begin = tail.number(end + 16, 4);
  const int64_t end_at = tail.begin() + end;
  if (end_at >= kLocatorBytes) {
    const Record locator(file, end_at - kLocatorBytes, kLocatorBytes);
    if (locator.all().starts_with(std::string_view("PK\x06\x07", 4))) {
      const int64_t at = size_of(locator.number(8, 8));
      if (at > end_at - kEnd64Bytes) fail("the 64-bit directory leaves the file");
      const Record end64(file, at, kEnd64Bytes);
      if (!end64.all().starts_with(std::string_view("PK\x06\x06", 4)))
        fail("the 64-bit directory is not where the archive says");
      count = end64.number(32, 8);
      bytes = end64.number(40, 8);
      begin = end64.number(48, 8);
    }
  }
  const int64_t size = size_of(bytes);
  if (size > kLargestDirectory) {
    fail("expected a directory of at most " + std::to_string(kLargestDirectory) + " bytes, found " +
         std::to_string(bytes));
  }
  if (size > end_at || size_of(begin) > end_at - size) fail("the archive's directory leaves the file");
  read_members(size_of(begin), size, size_of(count));
}

void ZipDirectory::read_members(int64_t begin, int64_t bytes, int64_t count) {
  const Record directory(file_, begin, bytes);
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool whole =
        at + kEntryBytes <= bytes && directory.text(at, 4) == std::string_view("PK\x01\x02", 4);
    const int64_t name_bytes = whole ? static_cast<int64_t>(directory.number(at + 28, 2)) : 0;
    const int64_t extra_bytes = whole ? static_cast<int64_t>(directory.number(at + 30, 2)) : 0;
    const int64_t next = at + kEntryBytes + name_bytes + extra_bytes +
                         (whole ? static_cast<int64_t>(directory.number(at + 32, 2)) : 0);
    if (!whole || next > bytes) {
      fail("the archive's directory promises " + std::to_string(count) + " members and ends after " +
           std::to_string(i));
    }
    uint64_t unpacked = directory.number(at + 24, 4);
    uint64_t stored = directory.number(at + 20, 4);
    uint64_t header = directory.number(at + 42, 4);
    // Extra fields: a kind and a length each; kind 1 holds, in this order, the sizes that are too wide.
    for (int64_t field = at + kEntryBytes + name_bytes;
         field + 4 <= at + kEntryBytes + name_bytes + extra_bytes;) {
      const int64_t field_end = field + 4 + static_cast<int64_t>(directory.number(field + 2, 2));
      int64_t value = field + 4;
      for (uint64_t* wide : {&unpacked, &stored, &header}) {
        if (directory.number(field, 2) != 1 || *wide != kNarrow || value + 8 > std::min(field_end, bytes))
          continue;
        *wide = directory.number(value, 8);
        value += 8;
      }
      field = field_end;
    }
    const std::string name = directory.text(at + kEntryBytes, name_bytes);
    const ZipMember member{.header = size_of(header),
                           .bytes = size_of(unpacked),
                           .stored = size_of(stored),
                           .method = static_cast<int>(directory.number(at + 10, 2)),
                           .encrypted = (directory.number(at + 8, 2) & 1U) != 0};
    if (!members_.emplace(name, member).second) fail("the archive has two members " + quote(name));
    at = next;
  }
}

ZipExtent ZipDirectory::locate(const std::string& name) const {
  const auto it = members_.find(name);
  if (it == members_.end()) fail("the archive has no member " + quote(name));
  const ZipMember& member = it->second;
  if (member.encrypted) fail("member " + quote(name) + " is encrypted, which is not read");
  if (member.method != 0 || member.stored != member.bytes) {
    fail("member " + quote(name) + " is compressed (method " + std::to_string(member.method) +
         "), expected it as it is: PyTorch never compresses. Pack the file anew without compression");
  }
  if (member.header > file_.size() - kHeaderBytes)
    fail("member " + quote(name) + " lies beyond the file's end");
  const Record header(file_, member.header, kHeaderBytes);
  if (header.text(0, 4) != std::string_view("PK\x03\x04", 4))
    fail("member " + quote(name) + " is not where the archive's directory says");
  const int64_t offset = member.header + kHeaderBytes + static_cast<int64_t>(header.number(26, 2)) +
                         static_cast<int64_t>(header.number(28, 2));
  if (member.bytes > file_.size() || offset > file_.size() - member.bytes) {
    fail("the file is cut short: member " + quote(name) + " has " + std::to_string(member.bytes) +
         " bytes from byte " + std::to_string(offset) + " on, the file " + std::to_string(file_.size()) +
         " (fetch the file again)");
  }
  return {.offset = offset, .bytes = member.bytes};
}

}  // namespace octet
