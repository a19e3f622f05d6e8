// SPDX-License-Identifier: Apache-2.0
/// Golden conversions: files of records of two uint32 (see tests/golden/README.md).
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "octet/base/file_reader.h"
#include "tests/support/source_dir.h"

namespace octet {

struct GoldenPair {
  uint32_t from = 0;
  uint32_t to = 0;
};

/// `name` is relative to tests/golden/. Throws when the file is missing or empty: a test of nothing must not
/// pass.
inline std::vector<GoldenPair> read_golden_pairs(const std::string& name) {
  const std::string bytes = read_text_file(source_dir() / "tests/golden" / name);
  if (bytes.empty() || bytes.size() % sizeof(GoldenPair) != 0)
    throw std::runtime_error(name + ": not golden pairs");
  std::vector<GoldenPair> pairs(bytes.size() / sizeof(GoldenPair));
  std::memcpy(pairs.data(), bytes.data(), bytes.size());
  return pairs;
}

}  // namespace octet
