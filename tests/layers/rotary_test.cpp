// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

TEST(Rotary, DefaultFrequenciesArePowersOfTheta) {
  const RotaryEmbedding rotary({.rotary_dim = 8, .theta = 10000.0});
  ASSERT_EQ(rotary.inverse_frequencies().size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(rotary.inverse_frequencies()[i],
                    static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / 8.0)));
  }
}

TEST(Rotary, Llama3KeepsShortWavelengthsAndStretchesLongOnes) {
  const RopeSpec plain{.rotary_dim = 128, .theta = 500000.0};
  RopeSpec scaled = plain;
  scaled.type = RopeType::kLlama3;
  scaled.factor = 8.0;
  scaled.original_max_position_embeddings = 8192;
  const RotaryEmbedding a(plain);
  const RotaryEmbedding b(scaled);
  EXPECT_EQ(a.inverse_frequencies()[0], b.inverse_frequencies()[0]);
  EXPECT_FLOAT_EQ(a.inverse_frequencies()[63] / 8.0F, b.inverse_frequencies()[63]);
}

TEST(Rotary, YarnMultipliesCosAndSinByTheAttentionFactor) {
  const RotaryEmbedding rotary({.type = RopeType::kYarn,
                                .rotary_dim = 16,
                                .factor = 4.0,
                                .original_max_position_embeddings = 64,
                                .attention_factor = 1.25});
  std::vector<float> cos(8);
  std::vector<float> sin(8);
  const std::vector<int32_t> positions = {0};
  rotary.angles(positions, view_of(cos.data(), Shape{1, 8}), view_of(sin.data(), Shape{1, 8}));
  EXPECT_FLOAT_EQ(cos[3], 1.25F);
  EXPECT_FLOAT_EQ(sin[3], 0.0F);
}

TEST(Rotary, AnglesStayExactAtFarPositions) {
  const RotaryEmbedding rotary({.rotary_dim = 2});
  std::vector<float> cos(1);
  std::vector<float> sin(1);
  const std::vector<int32_t> positions = {1000000};
  rotary.angles(positions, view_of(cos.data(), Shape{1, 1}), view_of(sin.data(), Shape{1, 1}));
  EXPECT_FLOAT_EQ(cos[0], static_cast<float>(std::cos(1e6)));
  EXPECT_FLOAT_EQ(sin[0], static_cast<float>(std::sin(1e6)));
}

}  // namespace
}  // namespace octet
