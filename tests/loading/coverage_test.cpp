// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/coverage.h"

#include <gtest/gtest.h>

#include <random>

namespace octet {
namespace {

Rectangle at(int64_t row, int64_t row_end, int64_t col, int64_t col_end) {
  return {.rows = {row, row_end}, .cols = {col, col_end}};
}

TEST(Coverage, IsCompleteWhenEveryElementHasComeInWhateverRectangles) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    constexpr int64_t kRows = 9;
    constexpr int64_t kCols = 7;
    Coverage coverage(kRows, kCols);
    std::vector<bool> seen(kRows * kCols, false);
    int64_t count = 0;
    for (int i = 0; i < 400; ++i) {
      const auto draw = [&](int64_t most) {
        return static_cast<int64_t>(random() % static_cast<unsigned>(most));
      };
      const int64_t row = draw(kRows);
      const int64_t col = draw(kCols);
      const Rectangle piece =
          at(row, row + 1 + draw(kRows - row), col, col + 1 + draw(std::min<int64_t>(3, kCols - col)));
      bool meets = false;
      for (int64_t r = piece.rows.begin; r < piece.rows.end; ++r) {
        for (int64_t c = piece.cols.begin; c < piece.cols.end; ++c)
          meets = meets || seen[static_cast<size_t>(r * kCols + c)];
      }
      ASSERT_EQ(coverage.overlaps(piece), meets);
      if (meets) continue;
      coverage.add(piece);
      for (int64_t r = piece.rows.begin; r < piece.rows.end; ++r) {
        for (int64_t c = piece.cols.begin; c < piece.cols.end; ++c)
          seen[static_cast<size_t>(r * kCols + c)] = true;
      }
      count += piece.elements();
      ASSERT_EQ(coverage.covered(), count);
      ASSERT_EQ(coverage.complete(), count == kRows * kCols);
      const auto gap = coverage.first_gap();
      ASSERT_EQ(gap.has_value(), !coverage.complete());
      if (!gap) continue;
      for (int64_t r = gap->rows.begin; r < gap->rows.end; ++r) {
        for (int64_t c = gap->cols.begin; c < gap->cols.end; ++c)
          ASSERT_FALSE(seen[static_cast<size_t>(r * kCols + c)]);
      }
    }
  }
}

TEST(Coverage, NamesTheFirstGap) {
  Coverage coverage(10, 4);
  EXPECT_EQ(coverage.first_gap(), at(0, 10, 0, 4));
  coverage.add(at(0, 3, 0, 4));
  EXPECT_EQ(coverage.first_gap(), at(3, 10, 0, 4));
  coverage.add(at(3, 10, 0, 1));
  coverage.add(at(3, 10, 2, 4));
  EXPECT_EQ(coverage.first_gap(), at(3, 10, 1, 2));
  coverage.add(at(4, 10, 1, 2));
  EXPECT_EQ(coverage.first_gap(), at(3, 4, 1, 2));
  coverage.add(at(3, 4, 1, 2));
  EXPECT_FALSE(coverage.first_gap().has_value());
}

TEST(Coverage, RectanglesAreToldOfByTheirFirstAndLastRowsAndColumns) {
  EXPECT_EQ(to_string(at(3, 10, 0, 4)), "rows 3 to 9, columns 0 to 3");
}

TEST(Coverage, NothingIsCompleteFromTheBeginning) {
  EXPECT_TRUE(Coverage(0, 5).complete());
  Coverage coverage(2, 2);
  coverage.add(at(1, 1, 0, 2));
  EXPECT_EQ(coverage.covered(), 0);
}

}  // namespace
}  // namespace octet
