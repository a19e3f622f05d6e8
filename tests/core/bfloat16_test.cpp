// SPDX-License-Identifier: Apache-2.0
#include "octet/core/bfloat16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/golden_pairs.h"

namespace octet {
namespace {

TEST(BFloat16, EncodesAsPyTorchDoes) {
  for (const auto [bits, code] : read_golden_pairs("float16/bf16_encode.bin")) {
    EXPECT_EQ(to_bfloat16(std::bit_cast<float>(bits)).bits, code) << std::hex << bits;
  }
}

TEST(BFloat16, KeepsNaNAndItsSign) {
  for (const auto [bits, code] : read_golden_pairs("float16/bf16_encode_nan.bin")) {
    const bfloat16 value = to_bfloat16(std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(to_float(value))) << std::hex << bits;
    EXPECT_NE(value.bits & 0x40, 0) << std::hex << bits;  // quiet
    EXPECT_EQ(value.bits >> 15, code >> 15) << std::hex << bits;
  }
}

TEST(BFloat16, EveryCodeThatIsNotNaNComesBack) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float value = to_float(bfloat16{static_cast<uint16_t>(code)});
    if (!std::isnan(value)) {
      EXPECT_EQ(to_bfloat16(value).bits, code);
      EXPECT_EQ(std::bit_cast<uint32_t>(round_to_bfloat16(value)), code << 16);
    }
  }
}

TEST(BFloat16, RoundsATieToEvenAndOverflowToInfinity) {
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f808000U)).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f818000U)).bits, 0x3f82);
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3f808001U)).bits, 0x3f81);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bfloat16(-std::numeric_limits<float>::max()).bits, 0xff80);
}

TEST(Float16, EncodesAsPyTorchDoes) {
  for (const auto [bits, code] : read_golden_pairs("float16/f16_encode.bin")) {
    EXPECT_EQ(to_float16(std::bit_cast<float>(bits)).bits, code) << std::hex << bits;
  }
}

TEST(Float16, DecodesAsPyTorchDoes) {
  for (const auto [code, bits] : read_golden_pairs("float16/f16_decode.bin")) {
    EXPECT_EQ(std::bit_cast<uint32_t>(to_float(float16{static_cast<uint16_t>(code)})), bits)
        << std::hex << code;
  }
}

TEST(Float16, KeepsNaNAndItsSign) {
  for (const auto [bits, code] : read_golden_pairs("float16/f16_encode_nan.bin")) {
    const float16 value = to_float16(std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(to_float(value))) << std::hex << bits;
    EXPECT_NE(value.bits & 0x200, 0) << std::hex << bits;
    EXPECT_EQ(value.bits >> 15, code >> 15) << std::hex << bits;
  }
}

TEST(Float16, EveryCodeThatIsNotNaNComesBack) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const float value = to_float(float16{static_cast<uint16_t>(code)});
    if (!std::isnan(value)) {
      EXPECT_EQ(to_float16(value).bits, code);
    }
  }
}

TEST(Float16, RoundsEveryTieOfItsSubnormalsToEven) {
  for (uint32_t code = 0; code < 0x400; ++code) {
    const float tie = (static_cast<float>(code) + 0.5F) * 0x1p-24F;
    EXPECT_EQ(to_float16(tie).bits, code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(to_float16(-tie).bits, 0x8000U | (code % 2 == 0 ? code : code + 1));
    EXPECT_EQ(to_float16(std::nextafter(tie, 1.0F)).bits, code + 1);
    EXPECT_EQ(to_float16(std::nextafter(tie, 0.0F)).bits, code);
  }
}

TEST(Float16, OverflowsToInfinityFromTheMiddleBeyondItsLargestValue) {
  EXPECT_EQ(to_float16(65504.0F).bits, 0x7bff);
  EXPECT_EQ(to_float16(std::nextafter(65520.0F, 0.0F)).bits, 0x7bff);
  EXPECT_EQ(to_float16(65520.0F).bits, 0x7c00);
  EXPECT_EQ(to_float16(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
}

TEST(FromFloat, IsOneNameForAllTypes) {
  EXPECT_EQ(from_float<float>(1.5F), 1.5F);
  EXPECT_EQ(to_float(from_float<bfloat16>(1.5F)), 1.5F);
  EXPECT_EQ(to_float(from_float<float16>(1.5F)), 1.5F);
  EXPECT_EQ(to_float(2.5F), 2.5F);
}

}  // namespace
}  // namespace octet
