// SPDX-License-Identifier: Apache-2.0
#include "octet/core/bfloat16.h"

namespace octet {

float to_float(float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000U) << 16;
  const uint32_t magnitude = value.bits & 0x7fffU;
  if (magnitude >= 0x7c00U) {  // infinity or NaN; NaN is made quiet as every conversion does
    const uint32_t payload = (magnitude & 0x3ffU) << 13;
    return std::bit_cast<float>(sign | 0x7f800000U | payload | (payload != 0 ? 0x00400000U : 0U));
  }
  if (magnitude < 0x0400U) {
    const float scaled = static_cast<float>(magnitude) * 0x1p-24F;
    return sign != 0 ? -scaled : scaled;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112U << 23)));
}

float16 to_float16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint32_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {
    return {static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU))};
  }
  if (magnitude < (113U << 23)) {  // below 2^-14: the float adder rounds to whole steps of 2^-24
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5F)))};
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  const uint32_t code = (rounded - (112U << 23)) >> 13;
  return {static_cast<uint16_t>(sign | (code > 0x7c00U ? 0x7c00U : code))};
}

}  // namespace octet
