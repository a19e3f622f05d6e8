// SPDX-License-Identifier: Apache-2.0
/// The reference's own meaning of norms, gates and rotations, against numbers worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;
using testing::ThrowsMessage;

class ReferenceElementwise : public testing::Test {
 protected:
  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_};
};

TEST_F(ReferenceElementwise, NormalizesEachHeadByItsOwnRootMeanSquare) {
  const std::array<float, 4> x = {3, 3, 0, 8};
  const std::array<float, 2> weight = {1, 2};
  std::array<float, 4> y{};
  backend_.rms_norm(view_of(x.data(), Shape{1, 4}), view_of(weight.data(), Shape{2}), 0.0F,
                    view_of(y.data(), Shape{1, 4}));
  EXPECT_THAT(y, ElementsAre(1.0F, 2.0F, 0.0F, FloatEq(2 * std::sqrt(2.0F))));
  backend_.rms_norm(view_of(x.data(), Shape{1, 4}), view_of(weight.data(), Shape{2}), 7.0F,
                    view_of(y.data(), Shape{1, 4}));
  EXPECT_EQ(y[0], 0.75F);  // 3 / sqrt(9 + 7)
}

TEST_F(ReferenceElementwise, CentersARowBeforeItIsNormalized) {
  const std::array<float, 4> x = {1, 3, 1, 3};
  const std::array<float, 4> weight = {1, 2, 3, 4};
  const std::array<float, 4> bias = {0, 0, 10, 10};
  std::array<float, 4> y{};
  const NormParameters parameters = {.weight = view_of(weight.data(), Shape{4}),
                                     .bias = view_of(bias.data(), Shape{4})};
  backend_.layer_norm(view_of(x.data(), Shape{1, 4}), parameters, 0.0F, view_of(y.data(), Shape{1, 4}));
  EXPECT_THAT(y, ElementsAre(-1.0F, 2.0F, 7.0F, 14.0F));
  backend_.layer_norm(view_of(x.data(), Shape{1, 4}), {}, 3.0F, view_of(y.data(), Shape{1, 4}));
  EXPECT_THAT(y, ElementsAre(-0.5F, 0.5F, -0.5F, 0.5F));  // 1 / sqrt(1 + 3)
}

TEST_F(ReferenceElementwise, CutsNegativeValues) {
  std::array<float, 3> x = {-2, 0, 3};
  backend_.relu(view_of(x.data(), Shape{1, 3}));
  EXPECT_THAT(x, ElementsAre(0.0F, 0.0F, 3.0F));
}

TEST_F(ReferenceElementwise, AddsInPlace) {
  const std::array<float, 2> x = {1, 2};
  std::array<float, 2> y = {10, 20};
  backend_.add(view_of(x.data(), Shape{1, 2}), view_of(y.data(), Shape{1, 2}));
  EXPECT_THAT(y, ElementsAre(11.0F, 22.0F));
}

TEST_F(ReferenceElementwise, GatesTheSecondHalfByTheFirst) {
  const std::array<float, 4> gate_up = {0, 1, 5, 2};
  std::array<float, 2> y{};
  backend_.silu_mul(view_of(gate_up.data(), Shape{1, 4}), view_of(y.data(), Shape{1, 2}));
  EXPECT_THAT(y, ElementsAre(0.0F, FloatEq(2.0F / (1.0F + std::exp(-1.0F)))));
}

TEST_F(ReferenceElementwise, RotatesHalvesOrNeighboursAndLeavesTheRest) {
  const std::array<float, 2> cos = {0, 1};
  const std::array<float, 2> sin = {1, 0};  // a quarter turn of the first pair, none of the second
  const ConstTensorView c = view_of(cos.data(), Shape{1, 2});
  const ConstTensorView s = view_of(sin.data(), Shape{1, 2});
  std::array<float, 10> halves = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5};
  backend_.rope(view_of(halves.data(), Shape{1, 10}), 5, c, s, RopeStyle::kHalfSplit);
  EXPECT_THAT(halves, ElementsAre(-3, 2, 1, 4, 5, -3, 2, 1, 4, 5));
  std::array<float, 5> neighbours = {1, 2, 3, 4, 5};
  backend_.rope(view_of(neighbours.data(), Shape{1, 5}), 5, c, s, RopeStyle::kInterleaved);
  EXPECT_THAT(neighbours, ElementsAre(-2, 1, 3, 4, 5));
}

TEST_F(ReferenceElementwise, RefusesToRotateMoreThanAHead) {
  std::array<float, 2> x{};
  const std::array<float, 2> angles{};
  const ConstTensorView a = view_of(angles.data(), Shape{1, 2});
  EXPECT_THAT([&] { backend_.rope(view_of(x.data(), Shape{1, 2}), 2, a, a, RopeStyle::kHalfSplit); },
              ThrowsMessage<ArgumentError>(HasSubstr("whole heads")));
}

}  // namespace
}  // namespace octet
