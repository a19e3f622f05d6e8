// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/token_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace octet {
namespace {

constexpr float kNever = std::numeric_limits<float>::infinity();

/// Logits from 5 downwards, the further the sparser, in an order without a pattern.
std::vector<float> some_logits(size_t count) {
  std::vector<float> logits(count);
  for (size_t i = 0; i < count; ++i) {
    const auto place = static_cast<float>(i * 7919 % count) / static_cast<float>(count);
    logits[i] = 5.0F - 100.0F * place * place;
  }
  return logits;
}

TEST(TokenWeights, AreTheExponentialsOfTheDistances) {
  const std::vector<float> logits = some_logits(1003);
  TokenWeights tokens(1003);
  for (const double temperature : {0.05, 0.7, 1.0, 3.0, 1e6}) {
    tokens.assign(logits, 5.0F, temperature);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double distance = (5.0 - static_cast<double>(logits[i])) / temperature;
      const double expected = distance < 87 ? std::exp(-distance) : 0.0;
      EXPECT_NEAR(tokens.weights()[i], expected, expected * 2e-7 * (1 + distance)) << temperature << " " << i;
    }
  }
}

TEST(TokenWeights, AreOneForTheBestAndNothingForTheImpossible) {
  TokenWeights tokens(4);
  for (const double temperature : {1e-300, 1e-6, 1.0, 1e6, 1e300}) {
    tokens.assign(std::vector<float>{2.0F, -kNever, 2.0F, 2.0F}, 2.0F, temperature);
    EXPECT_THAT(tokens.weights(), testing::ElementsAre(1.0F, 0.0F, 1.0F, 1.0F)) << temperature;
  }
  tokens.assign(std::vector<float>{2.0F, 1.99F}, 2.0F, 1e-6);
  EXPECT_THAT(tokens.weights(), testing::ElementsAre(1.0F, 0.0F));
  tokens.assign(std::vector<float>{2.0F, -2.0F}, 2.0F, 1e300);
  EXPECT_THAT(tokens.weights(), testing::ElementsAre(1.0F, 1.0F));
}

TEST(TokenWeights, SpreadOverBucketsByTheirDistance) {
  for (const size_t count : {1UL, 15UL, 128UL, 1003UL}) {
    const std::vector<float> logits = some_logits(count);
    TokenWeights tokens(1003);
    tokens.assign(logits, *std::max_element(logits.begin(), logits.end()), 0.7);
    const auto spread = tokens.spread();
    int64_t seen = 0;
    double weight = 0;
    float least = kNever;
    for (int b = 0; b < TokenWeights::kBuckets; ++b) {
      std::vector<int32_t> ids = {-7};
      tokens.collect(b, b, ids);
      EXPECT_EQ(std::ssize(ids) - 1, spread[static_cast<size_t>(b)].count);
      EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
      double sum = 0;
      float most = -kNever;
      float lowest = least;
      for (size_t i = 1; i < ids.size(); ++i) {
        const auto id = static_cast<size_t>(ids[i]);
        sum += static_cast<double>(tokens.weights()[id]);
        most = std::max(most, logits[id]);
        lowest = std::min(lowest, logits[id]);
      }
      EXPECT_LE(most, least) << "bucket " << b << " has a likelier token than one before it";
      EXPECT_NEAR(spread[static_cast<size_t>(b)].weight, sum, 1e-12 * (1 + sum));
      least = lowest;
      seen += spread[static_cast<size_t>(b)].count;
      weight += sum;
    }
    EXPECT_EQ(seen, std::ssize(logits));
    EXPECT_NEAR(weight, std::accumulate(tokens.weights().begin(), tokens.weights().end(), 0.0), 1e-9);
  }
}

TEST(TokenWeights, CollectWhatLiesInARangeOfBuckets) {
  TokenWeights tokens(5);
  tokens.assign(std::vector<float>{0.0F, -10.0F, -0.2F, -0.01F, -0.4F}, 0.0F, 1.0);
  std::vector<int32_t> ids;
  tokens.collect(0, 1, ids);
  EXPECT_THAT(ids, testing::ElementsAre(0, 2, 3));
  tokens.collect(3, 511, ids);
  EXPECT_THAT(ids, testing::ElementsAre(0, 2, 3, 1, 4));
  tokens.collect(0, -1, ids);
  EXPECT_EQ(ids.size(), 5U);
}

}  // namespace
}  // namespace octet
