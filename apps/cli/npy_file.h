// SPDX-License-Identifier: Apache-2.0
/// NumPy's .npy format, for matrices of float32.
#pragma once

#include <cstdint>
#include <string>

namespace octet::cli {

/// What stands before the little-endian values [rows, cols]: magic, version 1.0, description, padded to 64
/// bytes.
[[nodiscard]] std::string npy_header(int64_t rows, int64_t cols);

}  // namespace octet::cli
