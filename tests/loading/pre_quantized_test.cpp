// SPDX-License-Identifier: Apache-2.0
// FP8 that is already in the file: its codes are kept, its scales adopted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "octet/backend/reference/reference_backend.h"
#include "octet/loading/weight_loader.h"
#include "tests/loading/memory_source.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

/// Loads one FP8 matrix "w.weight" with what `source` holds beside it.
class PreQuantized : public testing::Test {
 protected:
  static constexpr int64_t kRows = 4;
  static constexpr int64_t kCols = 6;

  StoredMatrix& load(const MemorySource& source, const LoadOptions& options = {}, int64_t rows = kRows,
                     int64_t cols = kCols) {
    StoredMatrix& matrix = model_.matrix({{"w.weight", rows}}, cols, {.quantize = true});
    report_ = WeightLoader(backend_, {model_.parameters.back()}, options).pull(source);
    std::vector<std::byte> codes(static_cast<size_t>(rows * cols));
    backend_.read_rows(matrix.matrix.view(), 0,
                       {codes.data(), matrix.matrix.spec().dtype, Shape{rows, cols}});
    EXPECT_EQ(codes, source.bytes("w.weight"));
    EXPECT_FALSE(report_.weights[0].quantized);
    return matrix;
  }
  std::string refusal(const MemorySource& source, const LoadOptions& options = {}) {
    try {
      load(source, options);
    } catch (const FormatError& error) {
      EXPECT_EQ(ledger_.current(), 0);
      return error.what();
    }
    return "accepted";
  }
  static std::vector<float> scales(const StoredMatrix& matrix) {
    const float* begin = matrix.matrix.view().scales;
    return {begin, begin + matrix.matrix.spec().scale_count()};
  }
  static MemorySource source(DType dtype = DType::kF8E4M3) {
    MemorySource result;
    result.add("w.weight", dtype, {kRows, kCols});
    return result;
  }

  MemoryLedger ledger_;
  ReferenceBackend backend_{ledger_, MatrixLayout::kLanes64};
  TestModel model_;
  LoadReport report_;
};

TEST_F(PreQuantized, CodesWithoutScalesKeepTheirDtypeWhateverTheRuleSays) {
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    const StoredMatrix& matrix = load(source(dtype));
    EXPECT_EQ(matrix.matrix.spec().dtype, dtype);
    EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kNone);
  }
}

TEST_F(PreQuantized, OneScaleOfAnyShapeIsSpreadToTheRows) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {1}, {1, 1}}) {
    MemorySource s = source();
    s.add("w.weight_scale", DType::kF32, shape, std::vector<float>{0.25F});
    const StoredMatrix& matrix = load(s);
    EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kRow);
    EXPECT_THAT(scales(matrix), ElementsAre(0.25F, 0.25F, 0.25F, 0.25F));
    EXPECT_THAT(report_.unused, testing::IsEmpty());
    EXPECT_EQ(report_.weights[1].use, TensorUse::kScales);
  }
}

TEST_F(PreQuantized, AScalePerRowMayBeAVectorOrAColumnOfAnyRealDtype) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{kRows}, {kRows, 1}}) {
      MemorySource s = source();
      s.add("w.weight_scale", dtype, shape, std::vector<float>{1, 2, 3, 0.5F});
      const StoredMatrix& matrix = load(s, {.tile_bytes = 1});
      EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kRow);
      EXPECT_THAT(scales(matrix), ElementsAre(1, 2, 3, 0.5F));
    }
  }
}

TEST_F(PreQuantized, PowersOfTwoInE8M0AreScalesToo) {
  MemorySource s = source();
  s.add("w.weight_scale", DType::kF8E8M0, {kRows},
        {std::byte{127}, std::byte{128}, std::byte{120}, std::byte{0}});
  EXPECT_THAT(scales(load(s)), ElementsAre(1.0F, 2.0F, 0x1p-7F, 0x1p-127F));
}

TEST_F(PreQuantized, AGridIsAdoptedWithTheBlockOfTheConfiguration) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{2, 2}, {2, 1, 2, 1}}) {
    MemorySource s = source();
    s.add("w.weight_scale_inv", DType::kF32, shape, std::vector<float>{1, 2, 3, 4});
    const StoredMatrix& matrix = load(s, {.scale_block = BlockSize{.rows = 3, .cols = 4}});
    EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kGrid);
    EXPECT_THAT(scales(matrix), ElementsAre(1, 2, 3, 4));
    const QuantMatrixView view = matrix.matrix.view();
    EXPECT_EQ(view.scale(2, 3), 1);
    EXPECT_EQ(view.scale(2, 4), 2);
    EXPECT_EQ(view.scale(3, 0), 3);
  }
}

TEST_F(PreQuantized, WithoutAConfigurationAGridIsOf128OrOfTheBlockThatDividesEvenly) {
  MemorySource even = source();
  even.add("w.weight_scale_inv", DType::kF32, {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  EXPECT_EQ(load(even).matrix.view().scale(3, 2), 5);
  MemorySource usual;
  usual.add("w.weight", DType::kF8E4M3, {130, 260});
  usual.add("w.weight_scale_inv", DType::kF32, {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const StoredMatrix& matrix = load(usual, {}, 130, 260);
  EXPECT_EQ(matrix.matrix.view().scale(127, 128), 2);
  EXPECT_EQ(matrix.matrix.view().scale(128, 256), 6);
}

TEST_F(PreQuantized, RefusesScalesThatFitNothing) {
  MemorySource s = source();
  s.add("w.weight_scale", DType::kF32, {3}, std::vector<float>{1, 2, 3});
  EXPECT_THAT(
      refusal(s),
      HasSubstr("tensor 'w.weight_scale': found scales of shape [3] for a weight of [4, 6], expected one, "
                "one per row or one per block"));
}

TEST_F(PreQuantized, RefusesScalesOfAnIntegerDtypeAndTwoKindsAtOnce) {
  MemorySource integers = source();
  integers.add("w.weight_scale", DType::kI32, {1}, std::vector<std::byte>(4));
  EXPECT_THAT(refusal(integers), HasSubstr("expected scales in F32, F16, BF16 or F8_E8M0, found I32"));
  MemorySource both = source();
  both.add("w.weight_scale", DType::kF32, {1}, std::vector<float>{1});
  both.add("w.weight_scale_inv", DType::kF32, {1}, std::vector<float>{1});
  EXPECT_THAT(refusal(both), HasSubstr("has both 'w.weight_scale' and 'w.weight_scale_inv'"));
}

TEST_F(PreQuantized, RefusesAScaleThatIsNegativeOrNotFinite) {
  for (const float bad :
       {-1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    MemorySource s = source();
    s.add("w.weight_scale", DType::kF32, {kRows}, std::vector<float>{1, 1, bad, 1});
    EXPECT_THAT(refusal(s), HasSubstr("tensor 'w.weight_scale': scale 2 is"));
  }
}

TEST_F(PreQuantized, A16BitWeightIsNeverMultipliedByAScaleBesideIt) {
  MemorySource s;
  s.add("w.weight", DType::kBF16, {kRows, kCols});
  s.add("w.weight_scale_inv", DType::kF32, {1, 1}, std::vector<float>{1000});
  const StoredMatrix& matrix = model_.matrix({{"w.weight", kRows}}, kCols, {});
  const LoadReport report = WeightLoader(backend_, model_.parameters, {}).pull(s);
  EXPECT_EQ(matrix.matrix.spec().scale_kind, ScaleKind::kNone);
  EXPECT_THAT(report.unused, ElementsAre("w.weight_scale_inv"));
}

TEST_F(PreQuantized, MembersWithAndWithoutScalesShareAMatrixWithAScalePerRow) {
  MemorySource s;
  s.add("q.weight", DType::kF8E4M3, {2, kCols});
  s.add("k.weight", DType::kF8E4M3, {2, kCols});
  s.add("k.weight_scale", DType::kF32, {1}, std::vector<float>{3});
  s.add("v.weight", DType::kBF16, {2, kCols}, std::vector<float>(12, 448.0F));
  const StoredMatrix& matrix =
      model_.matrix({{"q.weight", 2}, {"k.weight", 2}, {"v.weight", 2}}, kCols, {.quantize = true});
  WeightLoader(backend_, model_.parameters, {}).pull(s);
  EXPECT_THAT(scales(matrix), ElementsAre(1, 1, 3, 3, 1, 1));
}

TEST_F(PreQuantized, RefusesMembersOfDifferentFormatsOrAGridBesideRows) {
  const auto message = [&](const MemorySource& s) -> std::string {
    TestModel model;
    model.matrix({{"q.weight", 4}, {"k.weight", 4}}, kCols, {});
    return test::refusal<FormatError>([&] { WeightLoader(backend_, model.parameters, {}).pull(s); });
  };
  MemorySource formats;
  formats.add("q.weight", DType::kF8E4M3, {4, kCols});
  formats.add("k.weight", DType::kF8E5M2, {4, kCols});
  EXPECT_THAT(message(formats), AllOf(HasSubstr("'q.weight' (F8_E4M3 without scales)"),
                                      HasSubstr("'k.weight' (F8_E5M2 without")));
  MemorySource grids;
  grids.add("q.weight", DType::kF8E4M3, {4, kCols});
  grids.add("q.weight_scale", DType::kF32, {2, 2}, std::vector<float>{1, 1, 1, 1});
  grids.add("k.weight", DType::kF8E4M3, {4, kCols});
  grids.add("k.weight_scale", DType::kF32, {1}, std::vector<float>{1});
  EXPECT_THAT(message(grids), AllOf(HasSubstr("with a scale per block"), HasSubstr("with a scale per row")));
}

}  // namespace
}  // namespace octet
