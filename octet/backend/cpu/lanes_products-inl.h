// SPDX-License-Identifier: Apache-2.0
/// Sums of products and what is near them as compilers make them, for instruction sets whose registers
/// suffice or that nobody waits for. Included at the end of lanes_<isa>.h; lanes_avx2.h has its own.
#pragma once

namespace octet::OCTET_ISA::lanes {

/// sums[i] += the vector at `at` * factors[i].
template <int n>
[[gnu::always_inline]] inline void add_products(const float* at, const F32* factors, F32* sums) {
  F32 factor;
  __builtin_memcpy(&factor, at, sizeof(factor));
  for (int i = 0; i < n; ++i) sums[i] = fma(factor, factors[i], sums[i]);
}
/// sums[i] += *at * factors[i].
template <int n>
[[gnu::always_inline]] inline void add_scaled(const float* at, const F32* factors, F32* sums) {
  const F32 factor = *at - F32{};
  for (int i = 0; i < n; ++i) sums[i] = fma(factor, factors[i], sums[i]);
}
/// What is at `from`: loaded where this stands.
[[gnu::always_inline]] inline I32 loaded_here(const int32_t (&from)[kLanes]) {
  I32 value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
/// sum_each of vectors that follow each other in memory.
inline F32 sum_each_stored(const float* at) {
  F32 sums[kLanes];
  __builtin_memcpy(sums, at, sizeof(sums));
  return sum_each(sums);
}

}  // namespace octet::OCTET_ISA::lanes
