// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::map<int32_t, double> frequencies(const std::vector<float>& logits, const SamplingParams& params,
                                      int draws = 20000) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  std::mt19937_64 generator(7);
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) counts[sampler.sample(logits, params, generator)] += 1.0 / draws;
  return counts;
}

TEST(Sampler, TemperatureZeroTakesTheLargestLogitAndTheLowestIdAmongEquals) {
  std::mt19937_64 generator(1);
  const std::vector<float> logits = {0.0F, 3.0F, -1.0F, 3.0F};
  EXPECT_EQ(Sampler(4).sample(logits, {.temperature = 0}, generator), 1);
}

TEST(Sampler, FindsTheLargestLogitWhereverItStands) {
  for (size_t size : {1UL, 15UL, 16UL, 17UL, 1000UL}) {
    for (size_t place = 0; place < size; place += 1 + size / 7) {
      std::vector<float> logits(size, -2.0F);
      logits[place] = -1.0F;
      EXPECT_EQ(argmax(logits), static_cast<int32_t>(place)) << size;
    }
  }
}

TEST(Sampler, DrawsEachTokenAsOftenAsItsProbabilitySays) {
  const auto seen = frequencies(logits_of({0.1, 0.2, 0.3, 0.4}), {.temperature = 1.0});
  EXPECT_NEAR(seen.at(0), 0.1, 0.02);
  EXPECT_NEAR(seen.at(1), 0.2, 0.02);
  EXPECT_NEAR(seen.at(2), 0.3, 0.02);
  EXPECT_NEAR(seen.at(3), 0.4, 0.02);
}

TEST(Sampler, ALowTemperatureSharpensAndAHighOneFlattens) {
  const auto logits = logits_of({0.2, 0.8});
  EXPECT_NEAR(frequencies(logits, {.temperature = 0.5}).at(0), 0.04 / (0.04 + 0.64), 0.02);
  EXPECT_NEAR(frequencies(logits, {.temperature = 2.0}).at(0),
              std::sqrt(0.2) / (std::sqrt(0.2) + std::sqrt(0.8)), 0.02);
}

TEST(Sampler, TopKKeepsTheKLikeliest) {
  const auto seen = frequencies(logits_of({0.1, 0.2, 0.3, 0.4}), {.temperature = 1.0, .top_k = 2});
  EXPECT_EQ(seen.size(), 2U);
  EXPECT_NEAR(seen.at(3), 4.0 / 7.0, 0.02);
}

TEST(Sampler, TopPKeepsTheFewestThatReachItAndTheOneThatCrosses) {
  const auto logits = logits_of({0.1, 0.2, 0.3, 0.4});
  EXPECT_EQ(frequencies(logits, {.temperature = 1.0, .top_p = 0.39}).size(), 1U);
  EXPECT_EQ(frequencies(logits, {.temperature = 1.0, .top_p = 0.6}).size(), 2U);
  EXPECT_EQ(frequencies(logits, {.temperature = 1.0, .top_p = 0.95}).size(), 4U);
}

TEST(Sampler, TopPOverALargeFlatVocabularyKeepsItsShare) {
  const std::vector<float> logits(5000, 0.25F);
  Sampler sampler(5000);
  std::mt19937_64 generator(3);
  int32_t largest = 0;
  for (int i = 0; i < 3000; ++i) {
    largest = std::max(largest, sampler.sample(logits, {.temperature = 1.0, .top_p = 0.5}, generator));
  }
  EXPECT_LT(largest, 2500);
  EXPECT_GT(largest, 2300);
}

/// The tokens that may be drawn, by sorting all: transformers' order of top-k, top-p, min-p.
std::vector<int32_t> allowed(const std::vector<float>& logits, const SamplingParams& params) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](int32_t id) { return static_cast<double>(logits[static_cast<size_t>(id)]); };
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  if (params.top_k > 0) ids.resize(std::min(ids.size(), static_cast<size_t>(params.top_k)));
  const auto weight = [&](int32_t id) { return std::exp((logit(id) - logit(ids[0])) / params.temperature); };
  double total = 0;
  for (const int32_t id : ids) total += weight(id);
  double reached = 0;
  size_t kept = 0;
  while (kept < ids.size() && (kept == 0 || reached < params.top_p * total)) reached += weight(ids[kept++]);
  ids.resize(kept);
  std::erase_if(ids, [&](int32_t id) { return weight(id) < params.min_p; });
  return ids;
}

TEST(Sampler, KeepsWhatSortingTheWholeVocabularyKeeps) {
  std::mt19937_64 generator(11);
  for (const size_t count : {1UL, 7UL, 300UL, 3000UL}) {
    std::vector<float> logits(count);
    for (size_t i = 0; i < count; ++i) {
      logits[i] = -static_cast<float>(generator() >> 40) * 0x1p-24F * 9.0F;
      if (i % 5 == 1) logits[i] = logits[i / 2];  // equals
      if (i % 11 == 3) logits[i] = -kInfinity;
    }
    Sampler sampler(static_cast<int64_t>(count));
    for (const SamplingParams& params :
         {SamplingParams{.temperature = 0.7, .top_p = 0.31}, SamplingParams{.temperature = 0.7, .top_k = 40},
          SamplingParams{.temperature = 1.5, .top_k = 5, .top_p = 0.77},
          SamplingParams{.temperature = 0.2, .top_p = 0.9999},
          SamplingParams{.temperature = 2.0, .min_p = 0.4}, SamplingParams{.temperature = 1.0, .top_k = 1},
          SamplingParams{.temperature = 1.0, .top_p = 1e-9},
          SamplingParams{.temperature = 0.9, .top_k = 100, .top_p = 0.95, .min_p = 0.2}}) {
      const std::vector<int32_t> expected = allowed(logits, params);
      std::map<int32_t, int> seen;
      for (int i = 0; i < 4000; ++i) ++seen[sampler.sample(logits, params, generator)];
      for (const auto& [id, times] : seen) EXPECT_THAT(expected, testing::Contains(id)) << count;
      if (expected.size() > 8) continue;
      for (const int32_t id : expected) {
        const double distance = static_cast<double>(logits[static_cast<size_t>(expected[0])]) -
                                static_cast<double>(logits[static_cast<size_t>(id)]);
        if (distance > 3 * params.temperature) continue;  // too unlikely for so few draws
        EXPECT_EQ(seen.count(id), 1U) << count << " " << id;
      }
    }
  }
}

TEST(Sampler, MinPDropsWhatIsUnlikelyBesideTheBest) {
  const auto seen = frequencies(logits_of({0.05, 0.15, 0.4, 0.4}), {.temperature = 1.0, .min_p = 0.3});
  EXPECT_EQ(seen.count(0), 0U);
  EXPECT_EQ(seen.count(1), 1U);
}

TEST(Sampler, TheSameSeedDrawsTheSameTokens) {
  std::vector<float> logits(300);
  std::iota(logits.begin(), logits.end(), 0.0F);
  for (float& l : logits) l = std::sin(l);
  std::mt19937_64 first(5);
  std::mt19937_64 second(5);
  Sampler sampler(300);
  const SamplingParams params{.temperature = 0.9, .top_k = 50, .top_p = 0.9};
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(sampler.sample(logits, params, first), sampler.sample(logits, params, second));
}

TEST(Sampler, NeverChoosesIdsBeyondTheVocabularyOfTheTokenizer) {
  std::mt19937_64 generator(1);
  Sampler sampler(2);
  const std::vector<float> logits = {0.0F, 1.0F, 9.0F};
  EXPECT_EQ(sampler.sample(logits, {.temperature = 0}, generator), 1);
  for (int i = 0; i < 100; ++i) EXPECT_LT(sampler.sample(logits, {.temperature = 5.0}, generator), 2);
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  std::mt19937_64 generator(1);
  Sampler sampler(40);
  std::vector<float> logits(40, 0.0F);
  logits[39] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW((void)sampler.sample(logits, {.temperature = 0}, generator), DeviceError);
  EXPECT_THROW((void)sampler.sample(logits, {.temperature = 1}, generator), DeviceError);
  logits[39] = kInfinity;
  EXPECT_THROW((void)sampler.sample(logits, {.temperature = 1}, generator), DeviceError);
  const std::vector<float> nothing(40, -kInfinity);
  EXPECT_THROW((void)sampler.sample(nothing, {.temperature = 0}, generator), DeviceError);
}

TEST(SamplingParams, NamesEveryFieldOutOfRangeAtOnce) {
  const SamplingParams params{.temperature = -1, .top_k = -2, .top_p = 0, .min_p = 1.5, .max_tokens = 0};
  try {
    params.validate();
    FAIL() << "accepted";
  } catch (const ArgumentError& error) {
    for (const char* field : {"temperature", "top_k", "top_p", "min_p", "max_tokens"}) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(field));
    }
  }
}

}  // namespace
}  // namespace octet
