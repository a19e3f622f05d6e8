// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/scale_groups.h"

#include <algorithm>

#include "octet/base/checked_math.h"

namespace octet {
namespace {

BlockSize block_of(const Piece& piece) {
  switch (piece.rule.granularity) {
    case Granularity::kTensor:
      return {.rows = piece.full_rows, .cols = piece.full_cols};
    case Granularity::kChannel:
      return {.rows = 1, .cols = piece.full_cols};
    case Granularity::kBlock:
      break;
  }
  return {.rows = kScaleBlock, .cols = kScaleBlock};
}

}  // namespace

ScaleGroups::ScaleGroups(const Piece& piece)
    : table_(scale_table(piece)), block_rows_(block_of(piece).rows), block_cols_(block_of(piece).cols) {
  if (piece.rows == 0 || piece.cols == 0) table_.own_rows.end = table_.own_rows.begin;  // nothing is stored
  extent_ = {.rows = {.begin = table_.own_rows.begin * block_rows_,
                      .end = std::min(piece.full_rows, table_.own_rows.end * block_rows_)},
             .cols = {.begin = table_.own_cols.begin * block_cols_,
                      .end = std::min(piece.full_cols, table_.own_cols.end * block_cols_)}};
  maxima_.assign(static_cast<size_t>(table_.own_count()), 0.0F);
  missing_.resize(maxima_.size());
  for (int64_t r = 0; r < table_.own_rows.size(); ++r) {
    for (int64_t c = 0; c < table_.own_cols.size(); ++c) missing_[at(r, c)] = shared_elements(r, c, extent_);
  }
}

Rectangle ScaleGroups::relevant(const Rectangle& rectangle) const {
  return intersection(rectangle, extent_);
}

int64_t ScaleGroups::first_run(const Rectangle& relevant) const {
  return block_cols_ - relevant.cols.begin % block_cols_;
}

Rectangle ScaleGroups::groups_of(const Rectangle& relevant) const {
  if (relevant.elements() == 0) return {};
  const auto groups = [](IndexRange range, int64_t block, int64_t first) {
    return IndexRange{.begin = range.begin / block - first, .end = ceil_div(range.end, block) - first};
  };
  return {.rows = groups(relevant.rows, block_rows_, table_.own_rows.begin),
          .cols = groups(relevant.cols, block_cols_, table_.own_cols.begin)};
}

int64_t ScaleGroups::shared_elements(int64_t row, int64_t col, const Rectangle& rectangle) const {
  const int64_t first_row = (row + table_.own_rows.begin) * block_rows_;
  const int64_t first_col = (col + table_.own_cols.begin) * block_cols_;
  const Rectangle group{.rows = {.begin = first_row, .end = first_row + block_rows_},
                        .cols = {.begin = first_col, .end = first_col + block_cols_}};
  return intersection(group, intersection(rectangle, extent_)).elements();
}

bool ScaleGroups::known_after(const Rectangle& wanted, const Rectangle& coming) const {
  const Rectangle groups = groups_of(relevant(wanted));
  for (int64_t r = groups.rows.begin; r < groups.rows.end; ++r) {
    for (int64_t c = groups.cols.begin; c < groups.cols.end; ++c) {
      const int64_t missing = missing_[at(r, c)];
      if (missing != 0 && missing != shared_elements(r, c, coming)) return false;
    }
  }
  return true;
}

void ScaleGroups::add_row(const Rectangle& relevant, int64_t row, const float* maxima) {
  const Rectangle groups = groups_of(relevant);
  const int64_t r = row / block_rows_ - table_.own_rows.begin;
  for (int64_t c = groups.cols.begin; c < groups.cols.end; ++c)
    maxima_[at(r, c)] = std::max(maxima_[at(r, c)], *maxima++);
}

bool ScaleGroups::arrive(const Rectangle& relevant) {
  const Rectangle groups = groups_of(relevant);
  bool news = false;
  for (int64_t r = groups.rows.begin; r < groups.rows.end; ++r) {
    for (int64_t c = groups.cols.begin; c < groups.cols.end; ++c) {
      missing_[at(r, c)] -= shared_elements(r, c, relevant);
      news = news || missing_[at(r, c)] == 0;
    }
  }
  return news;
}

}  // namespace octet
