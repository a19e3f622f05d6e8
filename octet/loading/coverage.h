// SPDX-License-Identifier: Apache-2.0
/// Which rectangles of a tensor have come: exact, whatever their sizes and order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "octet/core/shape.h"

namespace octet {

struct Rectangle {
  IndexRange rows;
  IndexRange cols;

  [[nodiscard]] int64_t elements() const { return rows.size() * cols.size(); }
  [[nodiscard]] bool operator==(const Rectangle& other) const = default;
};
/// What two rectangles share; empty ranges where they share nothing.
[[nodiscard]] Rectangle intersection(const Rectangle& a, const Rectangle& b);
/// For messages: "rows 0 to 49, columns 0 to 149".
[[nodiscard]] std::string to_string(const Rectangle& place);

/// Not thread-safe. Its memory grows with the number of gaps, not with that of rectangles: neighbours melt.
class Coverage {
 public:
  Coverage(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

  [[nodiscard]] bool overlaps(const Rectangle& rectangle) const;
  /// `rectangle` lies inside the tensor and overlaps nothing that came before.
  void add(const Rectangle& rectangle);

  [[nodiscard]] bool complete() const { return covered_ == rows_ * cols_; }
  /// The elements that have come.
  [[nodiscard]] int64_t covered() const { return covered_; }
  /// The first rows, and of them the first columns, that have not come. nullopt when complete.
  [[nodiscard]] std::optional<Rectangle> first_gap() const;

 private:
  /// Rows that have the same columns.
  struct Band {
    int64_t end = 0;
    std::vector<IndexRange> cols;  // ascending, apart from each other
  };
  using Bands = std::map<int64_t, Band>;  // by first row

  void split(int64_t row);
  void melt(IndexRange rows);

  int64_t rows_;
  int64_t cols_;
  int64_t covered_ = 0;
  Bands bands_;
};

}  // namespace octet
