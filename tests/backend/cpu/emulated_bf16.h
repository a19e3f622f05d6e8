// SPDX-License-Identifier: Apache-2.0
/// Elements as the bfloat16 instructions take them: subnormal numbers count as zero.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace octet::emulated {

inline float flush(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x;
}
/// The first (0) or second (1) of a pair of bfloat16.
inline float bf16_half(uint32_t pair, int half) {
  return flush(std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000U));
}

}  // namespace octet::emulated
