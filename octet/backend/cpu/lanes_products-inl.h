// SPDX-License-Identifier: Apache-2.0
/// Sums of products as compilers make them, for instruction sets whose registers suffice or that nobody waits
/// for. Included at the end of lanes_<isa>.h; lanes_avx2.h has its own.
#pragma once

namespace octet::OCTET_ISA::lanes {

/// sums[i] += the vector at `at` * factors[i].
template <int n>
[[gnu::always_inline]] inline void add_products(const float* at, const F32* factors, F32* sums) {
  F32 factor;
  __builtin_memcpy(&factor, at, sizeof(factor));
  for (int i = 0; i < n; ++i) sums[i] = fma(factor, factors[i], sums[i]);
}
/// first += *at * a, second += *at * b.
[[gnu::always_inline]] inline void add_scaled(const float* at, F32 a, F32 b, F32& first, F32& second) {
  const F32 factor = *at - F32{};
  first = fma(factor, a, first);
  second = fma(factor, b, second);
}

}  // namespace octet::OCTET_ISA::lanes
