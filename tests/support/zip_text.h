// SPDX-License-Identifier: Apache-2.0
/// Zip archives made by hand, byte for byte, so that tests can make wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace octet {

/// A number of `bytes` bytes, little-endian.
inline std::string little_endian(uint64_t value, size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(value >> (8 * i) & 0xffU);
  return text;
}

struct ZipPart {
  std::string name;
  std::string data;
  uint16_t method = 0;
  uint16_t flags = 0;
  bool wide = false;  ///< sizes and place in a 64-bit extra field
};

/// An archive of these members, without checksums, which no reader here asks for.
inline std::string zip_text(const std::vector<ZipPart>& parts, bool wide_end = false) {
  std::string text;
  std::string directory;
  for (const ZipPart& part : parts) {
    const size_t at = text.size();
    const std::string sizes = little_endian(part.data.size(), 4) + little_endian(part.data.size(), 4);
    text += "PK\x03\x04" + little_endian(20, 2) + little_endian(part.flags, 2) +
            little_endian(part.method, 2) + std::string(8, '\0') + sizes +
            little_endian(part.name.size(), 2) + little_endian(0, 2) + part.name + part.data;
    const std::string extra = part.wide ? little_endian(1, 2) + little_endian(24, 2) +
                                              little_endian(part.data.size(), 8) +
                                              little_endian(part.data.size(), 8) + little_endian(at, 8)
                                        : std::string();
    directory += "PK\x01\x02" + std::string(4, '\0') + little_endian(part.flags, 2) +
                 little_endian(part.method, 2) + std::string(8, '\0') +
                 (part.wide ? std::string(8, '\xff') : sizes) + little_endian(part.name.size(), 2) +
                 little_endian(extra.size(), 2) + std::string(10, '\0') +
                 (part.wide ? std::string(4, '\xff') : little_endian(at, 4)) + part.name + extra;
  }
  const size_t begin = text.size();
  text += directory;
  if (wide_end) {
    const size_t end64 = text.size();
    text += "PK\x06\x06" + little_endian(44, 8) + std::string(12, '\0') + little_endian(parts.size(), 8) +
            little_endian(parts.size(), 8) + little_endian(directory.size(), 8) + little_endian(begin, 8);
    text += "PK\x06\x07" + std::string(4, '\0') + little_endian(end64, 8) + little_endian(1, 4);
  }
  const uint64_t narrow = 0xffffffff;
  return text + "PK\x05\x06" + std::string(4, '\0') + little_endian(parts.size(), 2) +
         little_endian(parts.size(), 2) + little_endian(wide_end ? narrow : directory.size(), 4) +
         little_endian(wide_end ? narrow : begin, 4) + std::string(2, '\0');
}

}  // namespace octet
