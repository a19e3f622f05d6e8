// SPDX-License-Identifier: Apache-2.0
/// Safetensors files made by hand, byte for byte, so that tests can make wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace octet {

/// A length of 8 bytes as the format writes it.
inline std::string length_bytes(uint64_t length) {
  std::string text(8, '\0');
  for (size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xffU);
  return text;
}

/// A whole file: length, header, data.
inline std::string safetensors_text(std::string_view header, std::string_view data) {
  return length_bytes(header.size()) + std::string(header) + std::string(data);
}

/// One entry: "name":{"dtype":...,"shape":...,"data_offsets":[begin,end]}.
inline std::string entry(std::string_view name, std::string_view dtype, std::string_view shape, int64_t begin,
                         int64_t end) {
  return "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
         "\",\"shape\":" + std::string(shape) + ",\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(end) + "]}";
}

}  // namespace octet
