// SPDX-License-Identifier: Apache-2.0
#include "octet/core/quant_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

/// How many elements own each byte of a matrix; a byte outside it fails the test.
std::vector<int> count_owners(MatrixLayout layout, DType dtype, int64_t rows, int64_t cols) {
  const int64_t size = dtype_size(dtype);
  const int64_t bytes = matrix_bytes(layout, dtype, rows, cols);
  std::vector<int> owners(static_cast<size_t>(bytes), 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      const int64_t offset = element_offset(layout, dtype, cols, row, col);
      if (offset < 0 || offset + size > bytes || offset % size != 0) {
        ADD_FAILURE() << "element " << row << ", " << col << " is at " << offset;
        return owners;
      }
      for (int64_t byte = 0; byte < size; ++byte) ++owners[static_cast<size_t>(offset + byte)];
    }
  }
  return owners;
}

class MatrixLayoutOf : public ::testing::TestWithParam<std::tuple<MatrixLayout, DType>> {};

TEST_P(MatrixLayoutOf, GivesEveryElementBytesOfItsOwnWithinTheMatrix) {
  const auto [layout, dtype] = GetParam();
  for (const int64_t rows : {0, 1, 17, 63, 64, 65, 129}) {
    for (const int64_t cols : {0, 1, 3, 4, 5, 17, 129}) {
      const std::vector<int> owners = count_owners(layout, dtype, rows, cols);
      const auto owned = std::count(owners.begin(), owners.end(), 1);
      const auto padding = std::count(owners.begin(), owners.end(), 0);
      EXPECT_EQ(owned, rows * cols * dtype_size(dtype)) << rows << " x " << cols;
      EXPECT_EQ(owned + padding, static_cast<int64_t>(owners.size())) << rows << " x " << cols;
      if (layout == MatrixLayout::kRowMajor) {
        EXPECT_EQ(padding, 0) << rows << " x " << cols;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OddSizes, MatrixLayoutOf,
                         ::testing::Combine(::testing::Values(MatrixLayout::kRowMajor,
                                                              MatrixLayout::kLanes64),
                                            ::testing::Values(DType::kF8E4M3, DType::kF8E5M2, DType::kBF16,
                                                              DType::kF16, DType::kF32)));

TEST(MatrixLayout, OfLanesIsAsItsDescriptionSays) {
  // (r, c) is at (r / 64) * ceil(cols / 4) * 256 + (c / 4) * 256 + (r % 64) * 4 + c % 4 for one byte an
  // element.
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kF8E4M3, 10, 0, 3), 3);
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kF8E4M3, 10, 1, 0), 4);
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kF8E4M3, 10, 0, 4), 256);
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kF8E4M3, 10, 64, 0), 3 * 256);
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kBF16, 10, 65, 3), 5 * 256 + 256 + 4 + 2);
  EXPECT_EQ(element_offset(MatrixLayout::kLanes64, DType::kF32, 10, 2, 9), 9 * 256 + 8);
  EXPECT_EQ(matrix_bytes(MatrixLayout::kLanes64, DType::kF8E4M3, 65, 10), 2 * 3 * 256);
  EXPECT_EQ(matrix_bytes(MatrixLayout::kRowMajor, DType::kBF16, 3, 5), 30);
}

TEST(MatrixLayout, RefusesSizesThatOverflow) {
  EXPECT_THROW((void)matrix_bytes(MatrixLayout::kRowMajor, DType::kF32, int64_t{1} << 31, int64_t{1} << 31),
               ArgumentError);
  EXPECT_THROW((void)matrix_bytes(MatrixLayout::kLanes64, DType::kF8E4M3, int64_t{1} << 32, int64_t{1} << 31),
               ArgumentError);
  EXPECT_THROW((void)matrix_bytes(MatrixLayout::kLanes64, DType::kF8E4M3, INT64_MAX, 0), ArgumentError);
  EXPECT_THROW((void)matrix_bytes(MatrixLayout::kLanes64, DType::kF8E4M3, 1, INT64_MAX), ArgumentError);
  EXPECT_THROW((void)matrix_bytes(MatrixLayout::kRowMajor, DType::kF8E4M3, -1, 1), ArgumentError);
}

TEST(ScalePart, GivesAMergedMatrixAGridForEachMember) {
  std::vector<ScalePart> parts;
  append_scale_part(parts, 5, 7, 4, 3);  // a grid of 2 x 3
  append_scale_part(parts, 3, 7, 4, 3);  // 1 x 3, begins anew at row 5
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[1].row_begin, 5);
  EXPECT_EQ(parts[1].row_end, 8);
  EXPECT_EQ(parts[1].first_scale, 6);
  EXPECT_EQ(parts[0].index(0, 0), 0);
  EXPECT_EQ(parts[0].index(3, 6), 2);
  EXPECT_EQ(parts[0].index(4, 2), 3);
  EXPECT_EQ(parts[1].index(5, 0), 6);
  EXPECT_EQ(parts[1].index(7, 3), 7);
  const MatrixSpec spec = {.rows = 8, .cols = 7, .scale_kind = ScaleKind::kGrid, .parts = parts};
  EXPECT_EQ(spec.scale_count(), 9);
}

TEST(ScalePart, OfAShardThatBeginsInsideABlockHasAPhase) {
  // Rows 6 to 11 and columns 5 to 9 of a matrix in blocks of 4 x 3: their scales are those of the whole.
  const ScalePart shard = {
      .row_end = 5, .block_rows = 4, .block_cols = 3, .row_phase = 6 % 4, .col_phase = 5 % 3, .grid_cols = 3};
  const ScalePart whole = {.row_end = 12, .block_rows = 4, .block_cols = 3, .grid_cols = 4};
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t col = 0; col < 4; ++col) {
      const int64_t block = whole.index(row + 6, col + 5);
      EXPECT_EQ(shard.index(row, col), (block / 4 - 1) * 3 + block % 4 - 1) << row << ' ' << col;
    }
  }
  const MatrixSpec spec = {.rows = 5, .cols = 4, .scale_kind = ScaleKind::kGrid, .parts = {shard}};
  EXPECT_EQ(spec.scale_count(), 2 * 3);
}

TEST(MatrixSpec, CountsScalesAndBytesOfEachKind) {
  MatrixSpec spec = {.dtype = DType::kF8E4M3, .rows = 3, .cols = 5};
  EXPECT_EQ(spec.scale_count(), 0);
  EXPECT_EQ(spec.bytes(), 15);
  spec.scale_kind = ScaleKind::kRow;
  EXPECT_EQ(spec.scale_count(), 3);
  EXPECT_EQ(spec.bytes(), 15 + 12);
  spec.scale_kind = ScaleKind::kGrid;
  append_scale_part(spec.parts, 3, 5, 2, 2);
  EXPECT_EQ(spec.scale_count(), 6);
  spec.layout = MatrixLayout::kLanes64;
  EXPECT_EQ(spec.bytes(), 2 * 256 + 24);
}

TEST(QuantMatrix, TakesTheBytesOfItsSpecAndEntersThem) {
  HostAllocator allocator;
  MemoryLedger ledger;
  const MatrixSpec spec = {
      .rows = 65, .cols = 5, .layout = MatrixLayout::kLanes64, .scale_kind = ScaleKind::kRow};
  const QuantMatrix matrix(allocator, ledger, "weights", spec);
  EXPECT_EQ(matrix.bytes(), spec.bytes());
  EXPECT_EQ(ledger.current("weights"), spec.bytes());
  EXPECT_FALSE(matrix.empty());
  EXPECT_TRUE(QuantMatrix().empty());
}

TEST(QuantMatrix, GivesTheScaleOfAnElement) {
  HostAllocator allocator;
  MemoryLedger ledger;
  MatrixSpec spec = {.rows = 4, .cols = 4, .scale_kind = ScaleKind::kGrid};
  append_scale_part(spec.parts, 2, 4, 2, 2);
  append_scale_part(spec.parts, 2, 4, 2, 2);
  const QuantMatrix grid(allocator, ledger, "w", spec);
  const QuantMatrixView view = grid.view();
  for (int i = 0; i < 4; ++i) view.scales[i] = static_cast<float>(i + 1);
  EXPECT_EQ(view.scale(0, 1), 1.0F);
  EXPECT_EQ(view.scale(1, 2), 2.0F);
  EXPECT_EQ(view.scale(2, 0), 3.0F);
  EXPECT_EQ(view.scale(3, 3), 4.0F);
  EXPECT_THROW((void)view.part_of(4), ArgumentError);
  const QuantMatrix rows(allocator, ledger, "w", {.rows = 2, .cols = 3, .scale_kind = ScaleKind::kRow});
  rows.view().scales[1] = 7.0F;
  EXPECT_EQ(rows.view().scale(1, 2), 7.0F);
  const QuantMatrix raw(allocator, ledger, "w", {.rows = 2, .cols = 3});
  EXPECT_EQ(raw.view().scale(1, 2), 1.0F);
  EXPECT_EQ(raw.view().element(1, 2) - raw.view().data, 5);
}

TEST(QuantMatrix, KeepsItsViewsValidWhenMoved) {
  HostAllocator allocator;
  MemoryLedger ledger;
  MatrixSpec spec = {.rows = 2, .cols = 2, .scale_kind = ScaleKind::kGrid};
  append_scale_part(spec.parts, 2, 2, 1, 1);
  QuantMatrix first(allocator, ledger, "w", spec);
  const QuantMatrixView before = first.view();
  before.data[3] = std::byte{9};
  before.scales[3] = 2.0F;
  const QuantMatrix second = std::move(first);
  EXPECT_EQ(before.scale(1, 1), 2.0F);
  EXPECT_EQ(second.view().data, before.data);
  EXPECT_EQ(*second.view().element(1, 1), std::byte{9});
}

}  // namespace
}  // namespace octet
