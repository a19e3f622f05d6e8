// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

WeightQuality weight(const std::string& name, double noise, int64_t zeroed, bool raw_cast = true) {
  return {.name = name,
          .group = name.substr(0, name.find('.')),
          .raw_cast = raw_cast,
          .stats = {.signal = 1.0, .noise = noise, .elements = 100, .zeroed = zeroed, .saturated = 0}};
}

TEST(Quality, TheRatioIsInDecibelsOfPower) {
  EXPECT_DOUBLE_EQ(sqnr_db({.signal = 1000, .noise = 1, .elements = 5}).value(), 30.0);
  EXPECT_DOUBLE_EQ(sqnr_db({.signal = 2, .noise = 2, .elements = 5}).value(), 0.0);
}

TEST(Quality, ThereIsNoRatioWhereNothingWasLostOrMeasured) {
  EXPECT_FALSE(sqnr_db({.signal = 1000, .noise = 0, .elements = 5}).has_value());
  EXPECT_FALSE(sqnr_db({}).has_value());
  EXPECT_FALSE(sqnr_db({.signal = 0, .noise = 1, .elements = 5}).has_value());
}

TEST(Quality, TheZeroFractionIsOfAllElements) {
  EXPECT_DOUBLE_EQ(zero_fraction({.elements = 200, .zeroed = 3}), 0.015);
  EXPECT_DOUBLE_EQ(zero_fraction({}), 0.0);
}

TEST(Quality, GroupsSumTheirWeightsInOrderOfAppearance) {
  const std::vector<WeightQuality> weights = {weight("mlp.a", 0.25, 1, false), weight("attention.b", 0.5, 2),
                                              weight("mlp.c", 0.25, 3)};
  const auto groups = quality_by_group(weights);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].name, "mlp");
  EXPECT_DOUBLE_EQ(groups[0].stats.noise, 0.5);
  EXPECT_EQ(groups[0].stats.elements, 200);
  EXPECT_EQ(groups[0].stats.zeroed, 4);
  EXPECT_EQ(groups[1].name, "attention");
}

TEST(Quality, ARawCastUnderflowsBelow25DecibelsOrAboveFivePercentZeros) {
  EXPECT_FALSE(underflows(weight("a", 0.003, 5)));
  EXPECT_TRUE(underflows(weight("a", 0.004, 5)));
  EXPECT_TRUE(underflows(weight("a", 0.003, 6)));
}

TEST(Quality, AScaledWeightNeverCountsAsUnderflow) {
  EXPECT_FALSE(underflows(weight("a", 0.5, 50, false)));
}

TEST(Quality, TheWarningNamesTheWorstFirstAndTheCure) {
  const std::vector<WeightQuality> weights = {weight("fine", 0.001, 0), weight("bad", 0.01, 1),
                                              weight("worst", 0.1, 20)};
  const std::string text = underflow_warning(weights).value_or("");
  EXPECT_THAT(text, AllOf(HasSubstr("2 of 3 quantized weights"),
                          HasSubstr("worst (10.0 dB, 20.0 % zeroed), bad (20.0 dB"),
                          HasSubstr("leave out --raw-cast"), Not(HasSubstr("fine"))));
}

TEST(Quality, ThereIsNoWarningWithoutUnderflow) {
  const std::vector<WeightQuality> weights = {weight("fine", 0.001, 0)};
  EXPECT_FALSE(underflow_warning(weights).has_value());
}

}  // namespace
}  // namespace octet
