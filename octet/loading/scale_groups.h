// SPDX-License-Identifier: Apache-2.0
/// The scales of one weight that is pushed in pieces: which are known, and what is still to come for the
/// others.
#pragma once

#include <cstdint>
#include <vector>

#include "octet/loading/binding.h"
#include "octet/loading/coverage.h"
#include "octet/loading/shared_scales.h"

namespace octet {

/// The elements that share one scale are a group; of a weight that is cut over ranks, the groups of this
/// rank's slice, with all their elements in the whole tensor. Not thread-safe.
class ScaleGroups {
 public:
  explicit ScaleGroups(const Piece& piece);

  /// The part of a rectangle that lies in the groups.
  [[nodiscard]] Rectangle relevant(const Rectangle& rectangle) const;
  /// Columns of a relevant rectangle's first run and of the others.
  [[nodiscard]] int64_t first_run(const Rectangle& relevant) const;
  [[nodiscard]] int64_t run() const { return block_cols_; }

  /// Whether all scales of `wanted` will be known once `coming`, which is relevant, is there.
  [[nodiscard]] bool known_after(const Rectangle& wanted, const Rectangle& coming) const;
  [[nodiscard]] bool known(const Rectangle& wanted) const { return known_after(wanted, {}); }
  /// Row `row` of a relevant rectangle has these maxima in its runs.
  void add_row(const Rectangle& relevant, int64_t row, const float* maxima);
  /// A relevant rectangle is there, its maxima were added. Returns whether a scale became known.
  bool arrive(const Rectangle& relevant);
  /// Calls visit(group row, group column, largest) for each group of `relevant` that is whole.
  template <class Visit>
  void for_whole(const Rectangle& relevant, Visit&& visit) const {
    const Rectangle groups = groups_of(relevant);
    for (int64_t r = groups.rows.begin; r < groups.rows.end; ++r) {
      for (int64_t c = groups.cols.begin; c < groups.cols.end; ++c)
        if (missing_[at(r, c)] == 0) visit(r, c, maxima_[at(r, c)]);
    }
  }

 private:
  /// The groups, counted in this rank's own, that a relevant rectangle touches.
  [[nodiscard]] Rectangle groups_of(const Rectangle& relevant) const;
  [[nodiscard]] size_t at(int64_t row, int64_t col) const {
    return static_cast<size_t>(row * table_.own_cols.size() + col);
  }
  /// Elements of a group that lie in a rectangle.
  [[nodiscard]] int64_t shared_elements(int64_t row, int64_t col, const Rectangle& rectangle) const;

  ScaleTable table_;
  int64_t block_rows_;
  int64_t block_cols_;
  Rectangle extent_;  // of all groups, in the tensor
  std::vector<float> maxima_;
  std::vector<int64_t> missing_;  // elements
};

}  // namespace octet
