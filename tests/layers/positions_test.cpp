// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/positions.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "octet/backend/reference/reference_backend.h"
#include "octet/comm/single.h"

namespace octet {
namespace {

class PositionsTest : public ::testing::Test {
 protected:
  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_};
  SingleCommunicator communicator_;
  Arena arena_{Buffer(backend_.allocator(), ledger_, "test", 1 << 16)};
};

TEST_F(PositionsTest, RotationAddsNothingAndTurnsQueriesAsItTurnsKeys) {
  const RotaryPositions positions({.rotary_dim = 4});
  std::array<float, 2> hidden = {1, 2};
  const std::array<int32_t, 1> at = {5};
  positions.add_to(view_of(hidden.data(), Shape{1, 2}), at, arena_);
  EXPECT_EQ(hidden[0], 1.0F);
  const RopeAngles angles = positions.angles(at, arena_);
  EXPECT_EQ(angles.query_cos.row<float>(0)[0], std::cos(5.0F));
  EXPECT_EQ(angles.query_cos.data(), angles.key_cos.data());
  EXPECT_LE(arena_.used(), positions.angle_bytes(1));
}

TEST_F(PositionsTest, QueriesGrowWithEveryWholeRunOfPositions) {
  const TemperedRotaryPositions positions(
      {.rotary_dim = 2, .temperature_beta = 0.5, .temperature_original = 10});
  const std::array<int32_t, 3> at = {9, 10, 35};
  const RopeAngles angles = positions.angles(at, arena_);
  EXPECT_LE(arena_.used(), positions.angle_bytes(3));
  for (int64_t t = 0; t < 3; ++t) {
    const auto runs = static_cast<float>(at.at(static_cast<size_t>(t)) / 10);
    const float growth = 1.0F + 0.5F * std::log(1.0F + runs);
    EXPECT_FLOAT_EQ(angles.query_cos.row<float>(t)[0], growth * angles.key_cos.row<float>(t)[0]) << t;
    EXPECT_FLOAT_EQ(angles.query_sin.row<float>(t)[0], growth * angles.key_sin.row<float>(t)[0]) << t;
  }
  EXPECT_EQ(angles.query_cos.row<float>(0)[0], angles.key_cos.row<float>(0)[0]);  // the first run: not at all
}

TEST_F(PositionsTest, LearnedPositionsAreNeverQuantizedAndStandBehindTheirOffset) {
  QuantOptions options;
  options.fp8_embedding = true;
  const QuantSpec quant(options);
  const LayerContext context{
      .backend = backend_, .communicator = communicator_, .quant_spec = quant, .compute_dtype = DType::kF32};
  LearnedPositions positions(context, {.name = "positions", .positions = 3, .offset = 2, .hidden_size = 2});
  std::vector<Parameter> parameters;
  positions.declare(parameters);
  ASSERT_EQ(parameters.size(), 1U);
  EXPECT_EQ(parameters.front().name, "positions.weight");
  EXPECT_EQ(parameters.front().shape, (Shape{5, 2}));
  StoredMatrix& table = *std::get<StoredMatrix*>(parameters.front().destination);
  EXPECT_FALSE(table.rule.quantize);
  EXPECT_TRUE(table.lookup_only);
  const std::array<float, 10> rows = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6};
  table.matrix = QuantMatrix(backend_.allocator(), ledger_, "test",
                             {.dtype = DType::kF32, .rows = 5, .cols = 2, .parts = {}});
  backend_.store(view_of(rows.data(), Shape{5, 2}), table.matrix.view(), {});
  std::array<float, 4> hidden = {10, 10, 20, 20};
  const std::array<int32_t, 2> at = {2, 0};
  positions.add_to(view_of(hidden.data(), Shape{2, 2}), at, arena_);
  EXPECT_EQ(hidden, (std::array<float, 4>{15, 16, 21, 22}));
  EXPECT_EQ(arena_.used(), 0);
  const std::array<int32_t, 1> beyond = {3};
  EXPECT_THROW(positions.add_to(view_of(hidden.data(), Shape{1, 2}), beyond, arena_), ArgumentError);
}

}  // namespace
}  // namespace octet
