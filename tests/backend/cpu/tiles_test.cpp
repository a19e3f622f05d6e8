// SPDX-License-Identifier: Apache-2.0
// What the emulated kernels rest on: the instruction computes what emulated_tiles.h has in plain loops.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "octet/base/cpu_features.h"

#define OCTET_ISA hardware
#include "octet/backend/cpu/tiles_amx.h"
#undef OCTET_ISA
#define OCTET_ISA emulation
#include "tests/backend/cpu/emulated_tiles.h"

namespace octet {
namespace {

/// Rows of 16 pairs of bfloat16, and of 16 float32.
struct Operands {
  alignas(64) std::array<uint16_t, 512> x;
  alignas(64) std::array<uint16_t, 512> w;
  alignas(64) std::array<uint32_t, 256> sums;
};

/// Finite, with exponents from `least` on.
Operands random_operands(uint64_t& state, uint32_t least, uint32_t exponents) {
  const auto random = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>(state >> 33);
  };
  const auto bits = [&](int mantissa) {
    const uint32_t exponent = least + random() % exponents;
    return (random() & 1U) << (mantissa + 8) | exponent << mantissa | (random() & ((1U << mantissa) - 1));
  };
  Operands operands;
  for (uint16_t& each : operands.x) each = static_cast<uint16_t>(bits(7));
  for (uint16_t& each : operands.w) each = static_cast<uint16_t>(bits(7));
  for (uint32_t& each : operands.sums) each = bits(23);
  return operands;
}

bool is_nan(uint32_t bits) {
  return (bits & 0x7fffffffU) > 0x7f800000U;
}

void expect_same(const Operands& in) {
  std::array<uint32_t, 256> expected = in.sums;
  std::array<uint32_t, 256> found = in.sums;
  hardware::configure_tiles(16);
  hardware::load_tile<0>(found.data(), 64);
  hardware::load_tile<4>(in.x.data(), 64);
  hardware::load_tile<6>(in.w.data(), 64);
  hardware::multiply_add_tiles<0, 4, 6>();
  hardware::store_tile<0>(found.data(), 64);
  hardware::release_tiles();
  emulation::configure_tiles(16);
  emulation::load_tile<0>(expected.data(), 64);
  emulation::load_tile<4>(in.x.data(), 64);
  emulation::load_tile<6>(in.w.data(), 64);
  emulation::multiply_add_tiles<0, 4, 6>();
  emulation::store_tile<0>(expected.data(), 64);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (is_nan(expected[i]) && is_nan(found[i])) continue;
    ASSERT_EQ(found[i], expected[i]) << "element " << i;
  }
}

TEST(Tiles, AreMultipliedByTheProcessorAsEmulatedSubnormalAndInfiniteSumsIncluded) {
  const auto isas = supported_isas();
  if (isas.back() != CpuIsa::kAmxBf16) GTEST_SKIP() << "this machine has no AMX";
  uint64_t random = 7;
  for (int i = 0; i < 200; ++i) {
    expect_same(random_operands(random, 110, 30));  // of ordinary size
    expect_same(random_operands(random, 127, 1));   // near one: much cancels
    expect_same(random_operands(random, 0, 80));    // subnormal operands, products and sums
    expect_same(random_operands(random, 160, 90));  // sums that overflow
  }
}

}  // namespace
}  // namespace octet
