// SPDX-License-Identifier: Apache-2.0
/// The reference's own meaning of loading operations, against numbers worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class ReferenceLoading : public testing::Test {
 protected:
  /// The codes of one row of values under one scale (none: a raw cast).
  std::vector<int> codes_of(const std::vector<float>& values, std::optional<float> scale,
                            QuantizeRule rule = {}, DType format = DType::kF8E4M3) {
    const auto cols = static_cast<int64_t>(values.size());
    const QuantMatrix w(backend_.allocator(), ledger_, "test",
                        {.dtype = format,
                         .rows = 1,
                         .cols = cols,
                         .scale_kind = scale ? ScaleKind::kRow : ScaleKind::kNone,
                         .parts = {}});
    if (scale) *w.view().scales = *scale;
    backend_.quantize(view_of(values.data(), Shape{1, cols}), w.view(), {}, rule, &stats_);
    std::vector<int> codes;
    for (int64_t c = 0; c < cols; ++c) codes.push_back(static_cast<int>(*w.view().element(0, c)));
    return codes;
  }

  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_};
  QuantizeStats stats_;
};

TEST_F(ReferenceLoading, CastsRawValuesToTheNearestCodeTiesToEven) {
  EXPECT_THAT(codes_of({0x1p-10F, 0x1.001p-10F, 0x1.8p-9F, 0x1.4p-8F, 0x1p-6F, 1.0F, 1.0625F, 1.1875F, 17.0F,
                        19.0F, -0.0F},
                       {}),
              ElementsAre(0x00, 0x01, 0x02, 0x02, 0x08, 0x38, 0x38, 0x3a, 0x58, 0x5a, 0x80));
}

TEST_F(ReferenceLoading, SaturatesBeyondTheRangeAndCountsIt) {
  EXPECT_THAT(codes_of({448.0F, 449.0F, 464.0F, -1000.0F, kInfinity, -kInfinity}, {}),
              ElementsAre(0x7e, 0x7e, 0x7e, 0xfe, 0x7e, 0xfe));
  EXPECT_EQ(stats_.saturated, 5);
  EXPECT_EQ(stats_.elements, 6);
}

TEST_F(ReferenceLoading, TurnsNanIntoTheLargestValueOrKeepsIt) {
  EXPECT_THAT(codes_of({kNaN}, {}, {.nan_saturates = true}), ElementsAre(0x7e));
  EXPECT_THAT(codes_of({kNaN}, {}, {.nan_saturates = false}), ElementsAre(0x7f));
  EXPECT_THAT(codes_of({0.0F}, 0.0F, {.nan_saturates = true}), ElementsAre(0x7e));  // 0 / 0
  EXPECT_THAT(codes_of({kNaN}, {}, {.nan_saturates = true}, DType::kF8E5M2), ElementsAre(0x7b));
  EXPECT_EQ(stats_.saturated, 0);
}

TEST_F(ReferenceLoading, TellsTheReciprocalFromTheDivision) {
  constexpr QuantizeRule kDivide{.quotient = QuantizeRule::Quotient::kDivide};
  constexpr QuantizeRule kReciprocal{.quotient = QuantizeRule::Quotient::kReciprocal};
  // Exactly midway between two codes; the product with the rounded reciprocal falls above, or below.
  EXPECT_THAT(codes_of({1.5625F * 7}, 7.0F, kDivide), ElementsAre(0x3c));
  EXPECT_THAT(codes_of({1.5625F * 7}, 7.0F, kReciprocal), ElementsAre(0x3d));
  EXPECT_THAT(codes_of({1.6875F * 41}, 41.0F, kDivide), ElementsAre(0x3e));
  EXPECT_THAT(codes_of({1.6875F * 41}, 41.0F, kReciprocal), ElementsAre(0x3d));
}

TEST_F(ReferenceLoading, RoundsTheQuotientToTheDtypeOfTheValue) {
  const bfloat16 x = to_bfloat16(1.0703125F);
  const QuantMatrix w(
      backend_.allocator(), ledger_, "test",
      {.dtype = DType::kF8E4M3, .rows = 1, .cols = 1, .scale_kind = ScaleKind::kRow, .parts = {}});
  // 1.0703125 / 1.005 = 1.06499, above the midpoint of two codes; in bfloat16 it is the midpoint
  *w.view().scales = 1.005F;
  const ConstTensorView view(reinterpret_cast<const std::byte*>(&x), DType::kBF16, Shape{1, 1});
  backend_.quantize(view, w.view(), {}, {.quotient = QuantizeRule::Quotient::kDivide}, &stats_);
  EXPECT_EQ(*w.view().data, std::byte{0x39});
  backend_.quantize(view, w.view(), {}, {.quotient = QuantizeRule::Quotient::kDivideRounded}, &stats_);
  EXPECT_EQ(*w.view().data, std::byte{0x38});
}

TEST_F(ReferenceLoading, CountsWhatQuantizingDid) {
  codes_of({2.0F, -3.0F, 1e-6F, 0.0F, kInfinity, kNaN, 1000.0F}, 2.0F, {.nan_saturates = false});
  EXPECT_EQ(stats_.elements, 7);
  EXPECT_EQ(stats_.zeroed, 1);     // 1e-6; a zero stays what it is
  EXPECT_EQ(stats_.saturated, 2);  // infinity and 500
  EXPECT_DOUBLE_EQ(stats_.signal, 4.0 + 9.0 + static_cast<double>(1e-6F) * static_cast<double>(1e-6F) + 1e6);
  EXPECT_NEAR(stats_.noise, 104.0 * 104.0, 1e-6);  // 1000 - 2 * 448; the others are exact, and 1e-12
}

TEST_F(ReferenceLoading, RefusesATileOutsideOfTheMatrix) {
  const QuantMatrix w(backend_.allocator(), ledger_, "test",
                      {.dtype = DType::kF8E4M3, .rows = 2, .cols = 2, .parts = {}});
  const std::array<float, 4> x = {1, 2, 3, 4};
  const auto at = [&](MatrixPlace place) {
    return [&, place] { backend_.quantize(view_of(x.data(), Shape{2, 2}), w.view(), place, {}, &stats_); };
  };
  EXPECT_THAT(at({1, 0}), ThrowsMessage<ArgumentError>(HasSubstr("outside of the matrix")));
  EXPECT_THAT(at({0, 1}), ThrowsMessage<ArgumentError>(HasSubstr("outside of the matrix")));
  EXPECT_THAT(at({-1, 0}), ThrowsMessage<ArgumentError>(HasSubstr("outside of the matrix")));
}

TEST_F(ReferenceLoading, FindsMaximaOfRunsWithAPhase) {
  const std::array<float, 7> x = {1, -9, 2, 3, -4, kNaN, 5};
  std::array<float, 3> amax{};
  EXPECT_EQ(backend_.abs_max(view_of(x.data(), Shape{1, 7}), 1, 3, view_of(amax.data(), Shape{1, 3})), 1);
  EXPECT_THAT(amax, ElementsAre(1.0F, 9.0F, 5.0F));
}

TEST_F(ReferenceLoading, StoresFp8CodesAsTheyAreAndRefusesToConvertThem) {
  const QuantMatrix w(
      backend_.allocator(), ledger_, "test",
      {.dtype = DType::kF8E4M3, .rows = 1, .cols = 2, .scale_kind = ScaleKind::kRow, .parts = {}});
  *w.view().scales = 0.5F;
  const std::array<std::byte, 2> codes = {std::byte{0x40}, std::byte{0xff}};
  backend_.store(ConstTensorView(codes.data(), DType::kF8E4M3, Shape{1, 2}), w.view(), {});
  std::array<float, 2> y{};
  backend_.read_rows(w.view(), 0, view_of(y.data(), Shape{1, 2}));
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_THAT(
      [&] { backend_.store(ConstTensorView(codes.data(), DType::kF8E5M2, Shape{1, 2}), w.view(), {}); },
      ThrowsMessage<ArgumentError>(HasSubstr("no dtype to or from FP8")));
}

}  // namespace
}  // namespace octet
