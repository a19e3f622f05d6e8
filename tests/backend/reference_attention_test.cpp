// SPDX-License-Identifier: Apache-2.0
/// The reference's own meaning of the cache and of attention, against numbers worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// One key head of one dimension in blocks of two tokens: a token is a number.
class ReferenceAttention : public testing::Test {
 protected:
  KvView cache() {
    return {.keys = reinterpret_cast<std::byte*>(keys_.data()),
            .values = reinterpret_cast<std::byte*>(values_.data()),
            .dtype = DType::kF32,
            .block_size = 2,
            .heads = 1,
            .head_dim = 1};
  }

  /// Rows of queries at the end of one sequence whose blocks are 2, 0, 1.
  std::vector<float> attend(std::vector<float> q, int32_t context, AttentionSpec spec) {
    const auto rows = static_cast<int32_t>(static_cast<int64_t>(q.size()) / spec.query_heads);
    const std::array<int32_t, 2> starts = {0, rows};
    const std::array<int32_t, 1> contexts = {context};
    std::vector<float> y(q.size());
    const Shape shape{rows, spec.query_heads};
    backend_.attention(
        view_of(q.data(), shape), cache(),
        {.sequence_starts = starts, .context_lengths = contexts, .block_tables = tables_, .max_blocks = 3},
        spec, view_of(y.data(), shape));
    return y;
  }

  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_};
  std::array<int32_t, 3> tables_ = {2, 0, 1};
  // Positions 0 to 5 lie in slots 4, 5, 0, 1, 2, 3.
  std::array<float, 6> keys_ = {0, 0, 0, 0, 0, std::log(2.0F)};
  std::array<float, 6> values_ = {30, 40, 50, 60, 10, 20};
};

TEST_F(ReferenceAttention, WeighsTheKeysUpToTheQuerysOwn) {
  // Position 1 has twice the weight of the others.
  EXPECT_THAT(attend({1, 1}, 3, {.query_heads = 1}),
              ElementsAre(FloatEq((10 + 2 * 20) / 3.0F), FloatEq((10 + 2 * 20 + 30) / 4.0F)));
}

TEST_F(ReferenceAttention, ScalesTheScores) {
  EXPECT_THAT(attend({1}, 2, {.query_heads = 1, .scale = 2.0F}), ElementsAre(FloatEq((10 + 4 * 20) / 5.0F)));
}

TEST_F(ReferenceAttention, SeesOnlyTheWindow) {
  EXPECT_THAT(attend({1, 1}, 6, {.query_heads = 1, .sliding_window = 2}),
              ElementsAre(FloatEq(45), FloatEq(55)));
  EXPECT_THAT(attend({1}, 3, {.query_heads = 1, .sliding_window = 1}), ElementsAre(30.0F));
}

TEST_F(ReferenceAttention, SharesAKeyHeadAmongQueryHeads) {
  EXPECT_THAT(attend({0, 1}, 2, {.query_heads = 2}), ElementsAre(FloatEq(15), FloatEq((10 + 2 * 20) / 3.0F)));
}

TEST_F(ReferenceAttention, StoresKeysWithAScaleForEachTokenAndHead) {
  std::array<std::byte, 8> keys{};
  std::array<std::byte, 8> values{};
  std::array<float, 4> key_scales{};
  std::array<float, 4> value_scales{};
  const KvView view{.keys = keys.data(),
                    .values = values.data(),
                    .key_scales = key_scales.data(),
                    .value_scales = value_scales.data(),
                    .dtype = DType::kF8E4M3,
                    .block_size = 2,
                    .heads = 2,
                    .head_dim = 2};
  const std::array<float, 4> k = {448, 224, 0, 0};
  const std::array<float, 4> v = {-896, 1, 1, 1};
  const int32_t slot = 1;
  backend_.kv_store(view_of(k.data(), Shape{1, 4}), view_of(v.data(), Shape{1, 4}), std::span(&slot, 1),
                    view);
  EXPECT_THAT(key_scales, ElementsAre(0, 1.0F, 0, 1.0F / (448.0F * 512.0F)));
  EXPECT_EQ(value_scales[1], 2.0F);
  EXPECT_EQ(keys[2], std::byte{0x7e});
  EXPECT_EQ(keys[3], std::byte{0x76});
  EXPECT_EQ(values[2], std::byte{0xfe});
}

TEST_F(ReferenceAttention, RefusesASequenceWithFewerKeysThanRows) {
  EXPECT_THAT([&] { attend({1, 1}, 1, {.query_heads = 1}); },
              ThrowsMessage<ArgumentError>(HasSubstr("fewer keys than rows")));
  EXPECT_THAT([&] { attend({1}, 7, {.query_heads = 1}); },
              ThrowsMessage<ArgumentError>(HasSubstr("than its blocks hold")));
}

TEST_F(ReferenceAttention, RefusesANegativeSlot) {
  const float x = 1;
  const int32_t slot = -1;
  const ConstTensorView one = view_of(&x, Shape{1, 1});
  EXPECT_THAT([&] { backend_.kv_store(one, one, std::span(&slot, 1), cache()); },
              ThrowsMessage<ArgumentError>(HasSubstr("a slot is negative")));
}

}  // namespace
}  // namespace octet
