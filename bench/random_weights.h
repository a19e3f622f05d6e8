// SPDX-License-Identifier: Apache-2.0
/// A decoder's parameters straight from a random generator: no files, no quantizing.
#pragma once

#include <cstdint>

#include "octet/backend/backend.h"
#include "octet/layers/parameter.h"

namespace octet::bench {

/// Allocates and fills what `parameter` is stored in, unless another has done so: quantized matrices with
/// E4M3 codes and scales that keep sums near 1, other matrices with bfloat16, vectors with ones, biases with
/// zeros.
void fill_parameter(const Parameter& parameter, Backend& backend, MemoryLedger& ledger, uint64_t& seed);

/// The bytes of the elements of a stored matrix, scales not included.
[[nodiscard]] std::span<const std::byte> element_bytes(const StoredMatrix& matrix);

}  // namespace octet::bench
