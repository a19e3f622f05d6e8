// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// A bijection in which each bit of the result depends on all bits of `x`: a step of SplitMix64 (Steele, Lea
/// and Flood, "Fast splittable pseudorandom number generators", 2014).
[[nodiscard]] constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace octet
