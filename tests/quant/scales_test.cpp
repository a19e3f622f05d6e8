// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/scales.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

using Quotient = QuantizeRule::Quotient;

constexpr auto kVllm = NumericsProfile::kVllm;
constexpr auto kPackage = NumericsProfile::kCompressedTensors;

float scale(float amax, NumericsProfile profile, Granularity granularity, DType source = DType::kBF16,
            DType format = DType::kF8E4M3) {
  return scale_from_amax(
      amax, {.numerics = profile, .granularity = granularity, .format = format, .source = source});
}

TEST(Scales, VllmPerTensorDividesAndHasNoFloor) {
  EXPECT_EQ(scale(448.0F, kVllm, Granularity::kTensor), 1.0F);
  EXPECT_EQ(scale(3.0F, kVllm, Granularity::kTensor), 3.0F / 448.0F);
  EXPECT_EQ(scale(0.0F, kVllm, Granularity::kTensor), 0.0F);
}

TEST(Scales, VllmPerChannelIsNeverBelowItsFloor) {
  EXPECT_EQ(scale(3.0F, kVllm, Granularity::kChannel), 3.0F / 448.0F);
  EXPECT_EQ(scale(0.0F, kVllm, Granularity::kChannel), static_cast<float>(1.0 / (448.0 * 512.0)));
  EXPECT_EQ(scale(1e-6F, kVllm, Granularity::kChannel), static_cast<float>(1.0 / (448.0 * 512.0)));
}

TEST(Scales, VllmPerBlockFloorsTheMaximum) {
  EXPECT_EQ(scale(3.0F, kVllm, Granularity::kBlock), 3.0F / 448.0F);
  EXPECT_EQ(scale(0.0F, kVllm, Granularity::kBlock), 1e-4F / 448.0F);
}

TEST(Scales, E5M2PutsItsOwnLargestValueInThePlaceOf448) {
  EXPECT_EQ(scale(57344.0F, kVllm, Granularity::kTensor, DType::kF32, DType::kF8E5M2), 1.0F);
  EXPECT_EQ(scale(0.0F, kVllm, Granularity::kChannel, DType::kF32, DType::kF8E5M2),
            static_cast<float>(1.0 / (57344.0 * 512.0)));
  EXPECT_EQ(scale(0.0F, kVllm, Granularity::kBlock, DType::kF32, DType::kF8E5M2), 1e-4F / 57344.0F);
  EXPECT_EQ(scale(57344.0F, kPackage, Granularity::kBlock, DType::kF32, DType::kF8E5M2), 1.0F);
}

TEST(Scales, CompressedTensorsRoundsTheScaleToTheDtypeOfTheWeight) {
  for (const Granularity granularity : {Granularity::kTensor, Granularity::kChannel, Granularity::kBlock}) {
    EXPECT_EQ(scale(3.0F, kPackage, granularity, DType::kBF16), round_to_bfloat16(3.0F / 448.0F));
    EXPECT_EQ(scale(3.0F, kPackage, granularity, DType::kF16), to_float(to_float16(3.0F / 448.0F)));
    EXPECT_EQ(scale(3.0F, kPackage, granularity, DType::kF32), 3.0F / 448.0F);
  }
}

TEST(Scales, CompressedTensorsPutsEpsilonInThePlaceOfAZeroScale) {
  EXPECT_EQ(scale(0.0F, kPackage, Granularity::kChannel, DType::kBF16), 0x1p-7F);
  EXPECT_EQ(scale(0.0F, kPackage, Granularity::kChannel, DType::kF16), 0x1p-10F);
  EXPECT_EQ(scale(0.0F, kPackage, Granularity::kChannel, DType::kF32), 0x1p-23F);
  // 2^-24 is float16's smallest value; a 448th of it rounds to 0 there.
  EXPECT_EQ(scale(0x1p-24F, kPackage, Granularity::kChannel, DType::kF16), 0x1p-10F);
}

TEST(Scales, TheQuotientIsThatOfTheProfileAndGranularity) {
  const auto rule = [](NumericsProfile profile, Granularity granularity) {
    return quantize_rule({.numerics = profile, .granularity = granularity});
  };
  EXPECT_EQ(rule(kVllm, Granularity::kTensor).quotient, Quotient::kReciprocal);
  EXPECT_EQ(rule(kVllm, Granularity::kChannel).quotient, Quotient::kDivide);
  EXPECT_EQ(rule(kVllm, Granularity::kBlock).quotient, Quotient::kReciprocal);
  EXPECT_EQ(rule(kPackage, Granularity::kTensor).quotient, Quotient::kDivideRounded);
  EXPECT_TRUE(rule(kVllm, Granularity::kTensor).nan_saturates);
  EXPECT_FALSE(rule(kVllm, Granularity::kChannel).nan_saturates);
  EXPECT_FALSE(rule(kVllm, Granularity::kBlock).nan_saturates);
  EXPECT_FALSE(rule(kPackage, Granularity::kTensor).nan_saturates);
  EXPECT_FALSE(raw_cast_rule().nan_saturates);
}

}  // namespace
}  // namespace octet
