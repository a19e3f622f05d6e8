// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/router.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "octet/base/error.h"

namespace octet {
namespace {

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Choice choose(RouterSpec spec, const std::vector<float>& logits, const std::vector<float>& bias = {}) {
  spec.num_experts = static_cast<int64_t>(logits.size());
  std::vector<float> scratch(3 * logits.size());
  Choice choice{.experts = std::vector<int32_t>(static_cast<size_t>(spec.experts_per_token)),
                .weights = std::vector<float>(static_cast<size_t>(spec.experts_per_token))};
  choose_experts(spec, logits, bias, scratch, choice.experts, choice.weights);
  return choice;
}

float sigmoid(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

TEST(Router, WeighsTheBestExpertsByTheSoftmaxOverAll) {
  const Choice choice = choose({.module = {}, .alias = {}, .shared_gate = {}, .experts_per_token = 2},
                               {0.0F, 2.0F, -1.0F, 1.0F});
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{1, 3}));
  const float sum = 1.0F + std::exp(2.0F) + std::exp(-1.0F) + std::exp(1.0F);
  EXPECT_FLOAT_EQ(choice.weights[0], std::exp(2.0F) / sum);
  EXPECT_FLOAT_EQ(choice.weights[1], std::exp(1.0F) / sum);
}

TEST(Router, NormalizesTheWeightsOfTheChosenWhereAskedTo) {
  const Choice choice = choose({.module = {},
                                .alias = {},
                                .shared_gate = {},
                                .experts_per_token = 2,
                                .normalize = true,
                                .scaling_factor = 3.0F},
                               {0.0F, 2.0F, -1.0F, 1.0F});
  EXPECT_FLOAT_EQ(choice.weights[0] + choice.weights[1], 3.0F);
  EXPECT_FLOAT_EQ(choice.weights[0] / choice.weights[1], std::exp(1.0F));
}

TEST(Router, TakesEqualExpertsInTheOrderOfTheirNumbers) {
  const Choice choice = choose({.module = {}, .alias = {}, .shared_gate = {}, .experts_per_token = 3},
                               {1.0F, 5.0F, 1.0F, 1.0F});
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{1, 0, 2}));
}

TEST(Router, ChoosesWithTheCorrectionBiasButWeighsWithoutIt) {
  const RouterSpec spec{.module = {},
                        .alias = {},
                        .shared_gate = {},
                        .experts_per_token = 2,
                        .score = RouterScore::kSigmoid,
                        .correction_bias = true,
                        .scaling_factor = 1.8F};
  const Choice choice = choose(spec, {0.0F, 1.0F, 2.0F}, {5.0F, 0.0F, 0.0F});
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{0, 2}));
  EXPECT_FLOAT_EQ(choice.weights[0], 1.8F * sigmoid(0.0F));
  EXPECT_FLOAT_EQ(choice.weights[1], 1.8F * sigmoid(2.0F));
}

TEST(Router, ChoosesFromTheGroupsWithTheBestExpert) {
  RouterSpec spec{.module = {},
                  .alias = {},
                  .shared_gate = {},
                  .experts_per_token = 2,
                  .groups = 3,
                  .chosen_groups = 1,
                  .group_score = GroupScore::kLargest};
  const std::vector<float> logits = {4.0F, -9.0F, 3.0F, 3.5F, 3.9F, 0.0F};
  EXPECT_EQ(choose(spec, logits).experts, (std::vector<int32_t>{0, 1}));
  spec.group_score = GroupScore::kTwoLargest;
  spec.score = RouterScore::kSigmoid;
  EXPECT_EQ(choose(spec, logits).experts, (std::vector<int32_t>{3, 2}));
  spec.chosen_groups = 2;
  EXPECT_EQ(choose(spec, logits).experts, (std::vector<int32_t>{4, 3}));
}

TEST(Router, KeepsEveryOneOfTheBestGroups) {
  const RouterSpec spec{
      .module = {}, .alias = {}, .shared_gate = {}, .experts_per_token = 2, .groups = 3, .chosen_groups = 2};
  EXPECT_EQ(choose(spec, {4.0F, -9.0F, 3.0F, 3.5F, 3.9F, 0.0F}).experts, (std::vector<int32_t>{0, 4}));
  EXPECT_EQ(choose(spec, {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F}).experts, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(choose(spec, {1.0F, 0.0F, 2.0F, 0.0F, 3.0F, 0.5F}).experts, (std::vector<int32_t>{4, 2}));
}

TEST(Router, AnswersWithSomeExpertWhenScoresAreNotNumbers) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const int32_t expert :
       choose({.module = {}, .alias = {}, .shared_gate = {}, .experts_per_token = 2, .groups = 2},
              {nan, nan, nan, nan})
           .experts) {
    EXPECT_GE(expert, 0);
    EXPECT_LT(expert, 4);
  }
}

}  // namespace
}  // namespace octet
