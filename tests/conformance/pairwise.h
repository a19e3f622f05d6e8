// SPDX-License-Identifier: Apache-2.0
/// A small set of cases that meets every pair of values of every two factors: far fewer than the full
/// product, and what two factors break together is still met.
#pragma once

#include <cstddef>
#include <vector>

namespace octet::conformance {

/// `levels[f]` is the number of values of factor f; each case has one value in [0, levels[f]) for each
/// factor. The same levels give the same cases on every machine.
[[nodiscard]] std::vector<std::vector<size_t>> pairwise_cases(const std::vector<size_t>& levels);

}  // namespace octet::conformance
