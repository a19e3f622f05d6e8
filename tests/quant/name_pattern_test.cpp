// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using testing::HasSubstr;

bool matches(const std::string& pattern, std::string_view module) {
  return NamePattern(pattern).matches(module);
}

std::string refusal_of_pattern(const std::string& pattern) {
  return test::refusal<ConfigError>([&] { NamePattern refused(pattern); });
}

TEST(NamePattern, AnExactNameMatchesThatModuleOnly) {
  EXPECT_TRUE(matches("model.layers.1.mlp.up_proj", "model.layers.1.mlp.up_proj"));
  EXPECT_FALSE(matches("model.layers.1.mlp.up_proj", "model.layers.11.mlp.up_proj"));
  EXPECT_FALSE(matches("up_proj", "model.layers.1.mlp.up_proj"));
}

TEST(NamePattern, ADotInANameIsNotAWildcard) {
  EXPECT_FALSE(matches("a.b", "axb"));
}

TEST(NamePattern, ANameWithItsWeightSuffixMeansTheModule) {
  EXPECT_TRUE(matches("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj"));
}

TEST(NamePattern, AStarStandsForAnyRunAndAQuestionMarkForOneCharacter) {
  EXPECT_TRUE(matches("*.q_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches("model.layers.?.*", "model.layers.7.mlp.up_proj"));
  EXPECT_FALSE(matches("model.layers.?.*", "model.layers.17.mlp.up_proj"));
  EXPECT_TRUE(matches("*down*", "model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(matches("*.k_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches("a*b*c", "a.b.b.c"));
  EXPECT_TRUE(matches("*", ""));
}

TEST(NamePattern, AStarHeavyGlobEndsQuickly) {
  EXPECT_FALSE(matches(std::string(500, '*') + "z" + std::string(100, '*') + "q", std::string(1000, 'a')));
}

TEST(NamePattern, ARegularExpressionMatchesFromTheStartAndLeavesTheEndFree) {
  EXPECT_TRUE(matches("re:model\\.layers\\.[01]\\.", "model.layers.1.mlp.up_proj"));
  EXPECT_TRUE(matches("re:.*q_proj", "model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(matches("re:q_proj", "model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(matches("re:.*q_proj$", "model.layers.1.self_attn.k_proj"));
}

TEST(NamePattern, RefusesWhatIsNoPatternAndNamesIt) {
  EXPECT_THAT(refusal_of_pattern("re:("), HasSubstr("\"re:(\" is not a valid regular expression"));
  EXPECT_THAT(refusal_of_pattern(""), HasSubstr("is empty"));
  EXPECT_THAT(refusal_of_pattern(std::string(2000, 'a')), HasSubstr("has 2000 bytes; at most 1024"));
}

}  // namespace
}  // namespace octet
