// SPDX-License-Identifier: Apache-2.0
/// The reference's own meaning of multiplying and of quantized activations, against numbers worked out by
/// hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class ReferenceMultiply : public testing::Test {
 protected:
  QuantMatrix matrix(MatrixSpec spec) { return {backend_.allocator(), ledger_, "test", std::move(spec)}; }

  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_};
};

TEST_F(ReferenceMultiply, MultipliesWithTheScaleOfEachBlockAndAddsTheBias) {
  MatrixSpec spec{.dtype = DType::kF8E4M3, .rows = 2, .cols = 3, .scale_kind = ScaleKind::kGrid, .parts = {}};
  append_scale_part(spec.parts, 1, 3, 2, 2);  // row 0: columns 0, 1 and column 2
  append_scale_part(spec.parts, 1, 3, 2, 2);
  const QuantMatrix w = matrix(spec);
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < 3; ++c) {
      *w.view().element(r, c) =
          static_cast<std::byte>(to_float8_e4m3(static_cast<float>(r * 3 + c + 1)).bits);
    }
  }
  std::copy_n(std::array{1.0F, 10.0F, 100.0F, 0.5F}.data(), 4, w.view().scales);
  const std::array<float, 3> x = {1, 2, 3};
  const std::array<float, 2> bias = {0.25F, -1.0F};
  std::array<float, 2> y{};
  backend_.gemm({.dense = view_of(x.data(), Shape{1, 3}), .quantized = {}}, w.view(),
                view_of(bias.data(), Shape{2}), view_of(y.data(), Shape{1, 2}));
  EXPECT_THAT(y, ElementsAre(1 * 1 + 2 * 2 + 3 * 3 * 10 + 0.25F, (4 * 1 + 5 * 2) * 100 + 6 * 3 * 0.5F - 1));
}

TEST_F(ReferenceMultiply, QuantizesActivationsPerTokenAndMultipliesThem) {
  const QuantMatrix q =
      matrix({.dtype = DType::kF8E4M3, .rows = 2, .cols = 2, .scale_kind = ScaleKind::kRow, .parts = {}});
  const std::array<float, 4> x = {896, -448, 0, 0};
  backend_.quantize_activations(view_of(x.data(), Shape{2, 2}), Precision::kFloat32, std::nullopt, q.view());
  EXPECT_EQ(q.view().scales[0], 2.0F);
  EXPECT_EQ(q.view().scales[1], 1.0F / (448.0F * 512.0F));
  EXPECT_EQ(*q.view().element(0, 0), std::byte{0x7e});
  EXPECT_EQ(*q.view().element(0, 1), std::byte{0xf6});  // -224
  const QuantMatrix w = matrix({.dtype = DType::kF32, .rows = 1, .cols = 2, .parts = {}});
  std::copy_n(std::array{1.0F, 1.5F}.data(), 2, reinterpret_cast<float*>(w.view().data));
  std::array<float, 2> y{};
  backend_.gemm({.dense = {}, .quantized = q.view()}, w.view(), {}, view_of(y.data(), Shape{2, 1}));
  EXPECT_THAT(y, ElementsAre(896.0F - 1.5F * 448.0F, 0.0F));
}

TEST_F(ReferenceMultiply, GivesGroupsTheirOwnScalesAndAFloor) {
  MatrixSpec spec{.dtype = DType::kF8E4M3, .rows = 1, .cols = 3, .scale_kind = ScaleKind::kGrid, .parts = {}};
  append_scale_part(spec.parts, 1, 3, 1, 2);
  const QuantMatrix q = matrix(spec);
  const std::array<float, 3> x = {1, -44.8F, 0};
  backend_.quantize_activations(view_of(x.data(), Shape{1, 3}), Precision::kFloat32, std::nullopt, q.view());
  EXPECT_EQ(q.view().scales[0], 44.8F / 448.0F);
  EXPECT_EQ(q.view().scales[1], 1e-10F / 448.0F);
  backend_.quantize_activations(view_of(x.data(), Shape{1, 3}), Precision::kFloat32, 0.5F, q.view());
  EXPECT_EQ(q.view().scales[0], 0.5F);
  EXPECT_EQ(*q.view().element(0, 0), std::byte{0x40});
}

// x * (1 / scale) as PyTorch computes it in float32; x / scale would give the code before.
TEST_F(ReferenceMultiply, MultipliesByTheReciprocalOfAStaticScale) {
  const QuantMatrix q =
      matrix({.dtype = DType::kF8E4M3, .rows = 1, .cols = 4, .scale_kind = ScaleKind::kRow, .parts = {}});
  const std::array<float, 4> x = {0x1.23d708p-5F, 0x1.6147acp-5F, 0x1.9eb850p-5F, 0x1.dc28f4p-5F};
  backend_.quantize_activations(view_of(x.data(), Shape{1, 4}), Precision::kFloat32, 0.03F, q.view());
  EXPECT_EQ(q.view().scales[0], 0.03F);
  EXPECT_EQ(*q.view().element(0, 0), std::byte{0x3a});
  EXPECT_EQ(*q.view().element(0, 1), std::byte{0x3c});
  EXPECT_EQ(*q.view().element(0, 2), std::byte{0x3e});
  EXPECT_EQ(*q.view().element(0, 3), std::byte{0x40});
}

TEST_F(ReferenceMultiply, RoundsTheDenseOperandOnceWhenAsked) {
  const QuantMatrix w = matrix({.dtype = DType::kF32, .rows = 1, .cols = 1, .parts = {}});
  *reinterpret_cast<float*>(w.view().data) = 1.0F + 0x1p-20F;  // the weight is not rounded
  const float x = 1.0F + 0x1p-8F;
  float y = 0;
  const ConstTensorView view = view_of(&x, Shape{1, 1});
  backend_.gemm({.dense = view, .precision = Precision::kBFloat16, .quantized = {}}, w.view(), {},
                view_of(&y, Shape{1, 1}));
  EXPECT_EQ(y, 1.0F + 0x1p-20F);
  backend_.gemm({.dense = view, .precision = Precision::kFloat32, .quantized = {}}, w.view(), {},
                view_of(&y, Shape{1, 1}));
  EXPECT_GT(y, 1.003F);
}

TEST_F(ReferenceMultiply, RefusesOperandsThatDoNotFit) {
  const QuantMatrix w = matrix({.dtype = DType::kF8E4M3, .rows = 2, .cols = 3, .parts = {}});
  const std::array<float, 4> x{};
  std::array<float, 4> y{};
  const auto multiply = [&](Shape xs, Shape ys) {
    return [&, xs, ys] {
      backend_.gemm({.dense = view_of(x.data(), xs), .quantized = {}}, w.view(), {}, view_of(y.data(), ys));
    };
  };
  EXPECT_THAT(multiply({1, 2}, {1, 2}), ThrowsMessage<ArgumentError>(HasSubstr("differ in K")));
  EXPECT_THAT(multiply({1, 3}, {1, 3}), ThrowsMessage<ArgumentError>(HasSubstr("differ in N")));
  EXPECT_THAT(multiply({1, 3}, {2, 2}), ThrowsMessage<ArgumentError>(HasSubstr("one row for each row")));
}

TEST_F(ReferenceMultiply, RefusesATokenOutsideOfTheTable) {
  const QuantMatrix table = matrix({.dtype = DType::kF8E4M3, .rows = 2, .cols = 1, .parts = {}});
  float y = 0;
  for (const int32_t id : {-1, 2}) {
    EXPECT_THAT([&] { backend_.embed(std::span(&id, 1), table.view(), view_of(&y, Shape{1, 1})); },
                ThrowsMessage<ArgumentError>(HasSubstr("outside of the table")));
  }
}

}  // namespace
}  // namespace octet
