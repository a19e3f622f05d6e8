// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/npy_file.h"

namespace octet::cli {

std::string npy_header(int64_t rows, int64_t cols) {
  constexpr size_t kPrefix = 10;  // magic, version, length of the description
  std::string description = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) +
                            ", " + std::to_string(cols) + "), }";
  while ((kPrefix + description.size() + 1) % 64 != 0) description += ' ';
  description += '\n';
  const size_t length = description.size();
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(length & 0xFF) +
         static_cast<char>(length >> 8) + description;
}

}  // namespace octet::cli
