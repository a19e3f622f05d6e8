// SPDX-License-Identifier: Apache-2.0
#include "octet/core/float8.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "octet/core/dtype.h"
#include "tests/support/golden_pairs.h"

namespace octet {
namespace {

template <class T>
class Float8 : public ::testing::Test {
 public:
  static constexpr bool kE4M3 = std::is_same_v<T, float8_e4m3>;
  static constexpr DType kType = kE4M3 ? DType::kF8E4M3 : DType::kF8E5M2;
  static constexpr uint32_t kMaxCode = kE4M3 ? 0x7e : 0x7b;
  static std::string file(const char* what) {
    return std::string("float8/") + (kE4M3 ? "e4m3_" : "e5m2_") + what;
  }
  static float decode(uint32_t code) { return to_float(T{static_cast<uint8_t>(code)}); }
  static uint32_t encode(float value) { return from_float<T>(value).bits; }
};

using Formats = ::testing::Types<float8_e4m3, float8_e5m2>;
TYPED_TEST_SUITE(Float8, Formats);

TYPED_TEST(Float8, DecodesAll256CodesAsPyTorchDoes) {
  std::set<uint32_t> codes;
  for (const auto [code, bits] : read_golden_pairs(this->file("decode.bin"))) {
    const float value = this->decode(code);
    if (std::isnan(std::bit_cast<float>(bits))) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(value), bits) << code;
    }
    codes.insert(code);
  }
  EXPECT_EQ(codes.size(), 256U);
}

TYPED_TEST(Float8, EncodesEveryTieAndItsNeighboursAsPyTorchDoes) {
  const auto pairs = read_golden_pairs(this->file("encode.bin"));
  EXPECT_GT(pairs.size(), 1000U);
  for (const auto [bits, code] : pairs) {
    EXPECT_EQ(this->encode(std::bit_cast<float>(bits)), code) << std::hex << bits;
  }
}

TYPED_TEST(Float8, EveryFiniteCodeComesBack) {
  for (uint32_t code = 0; code < 256; ++code) {
    if (std::isfinite(this->decode(code))) {
      EXPECT_EQ(this->encode(this->decode(code)), code);
    }
  }
}

TYPED_TEST(Float8, RoundsToTheNearestAndATieToTheEvenCode) {
  for (uint32_t code = 0; code < this->kMaxCode; ++code) {  // computed here, not by the codec or a file
    const float low = this->decode(code);
    const float high = this->decode(code + 1);
    const float middle = (low + high) / 2;  // exact: float32 has many more bits
    ASSERT_LT(low, high);
    const uint32_t even = code % 2 == 0 ? code : code + 1;
    for (const uint32_t sign : {0U, 0x80U}) {
      const float s = sign != 0 ? -1.0F : 1.0F;
      EXPECT_EQ(this->encode(s * middle), sign | even);
      EXPECT_EQ(this->encode(s * std::nextafter(middle, 0.0F)), sign | code);
      EXPECT_EQ(this->encode(s * std::nextafter(middle, high)), sign | (code + 1));
    }
  }
}

TYPED_TEST(Float8, SaturatesFiniteOverflowAndInfinities) {
  const float max = max_finite(this->kType);
  EXPECT_EQ(this->decode(this->kMaxCode), max);
  for (const float value : {max, max * 1.001F, max * 2, std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(this->encode(value), this->kMaxCode) << value;
    EXPECT_EQ(this->encode(-value), 0x80U | this->kMaxCode) << value;
  }
}

TYPED_TEST(Float8, KeepsNaNAndItsSign) {
  for (const uint32_t bits : {0x7fc00000U, 0x7f800001U, 0x7fffffffU}) {
    EXPECT_EQ(this->encode(std::bit_cast<float>(bits)), 0x7fU) << std::hex << bits;
    EXPECT_EQ(this->encode(std::bit_cast<float>(bits | 0x80000000U)), 0xffU) << std::hex << bits;
  }
  EXPECT_TRUE(std::isnan(this->decode(0x7f)));
  EXPECT_TRUE(std::isnan(this->decode(0xff)));
}

TYPED_TEST(Float8, KeepsTheSignOfZeroAndOfWhatUnderflows) {
  EXPECT_EQ(this->encode(0.0F), 0x00U);
  EXPECT_EQ(this->encode(-0.0F), 0x80U);
  EXPECT_TRUE(std::signbit(this->decode(0x80)));
  EXPECT_EQ(this->encode(-1e-30F), 0x80U);
  EXPECT_EQ(this->encode(std::numeric_limits<float>::denorm_min()), 0x00U);
}

TEST(Float8E4M3, HasNoInfinityButE5M2Has) {
  for (uint32_t code = 0; code < 256; ++code)
    EXPECT_FALSE(std::isinf(to_float(float8_e4m3{static_cast<uint8_t>(code)})));
  EXPECT_EQ(to_float(float8_e5m2{0x7c}), std::numeric_limits<float>::infinity());
  EXPECT_EQ(to_float(float8_e5m2{0xfc}), -std::numeric_limits<float>::infinity());
}

TEST(Float8E4M3, HasStepsOfTwoToTheMinusNineBelowItsNormals) {
  EXPECT_EQ(to_float(float8_e4m3{0x01}), 0x1p-9F);
  EXPECT_EQ(to_float(float8_e4m3{0x08}), 0x1p-6F);
  EXPECT_EQ(to_float(float8_e5m2{0x01}), 0x1p-16F);
  EXPECT_EQ(to_float(float8_e5m2{0x04}), 0x1p-14F);
}

}  // namespace
}  // namespace octet
