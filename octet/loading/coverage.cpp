// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/coverage.h"

#include <algorithm>
#include <iterator>

namespace octet {
namespace {

bool meets(const std::vector<IndexRange>& ranges, IndexRange range) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const IndexRange& other) {
    return other.begin < range.end && range.begin < other.end;
  });
}

/// `range` meets none of `ranges`.
void insert(std::vector<IndexRange>& ranges, IndexRange range) {
  auto at = std::find_if(ranges.begin(), ranges.end(),
                         [&](const IndexRange& other) { return other.begin >= range.end; });
  at = ranges.insert(at, range);
  if (const auto next = std::next(at); next != ranges.end() && next->begin == at->end) {
    at->end = next->end;
    ranges.erase(next);
  }
  if (at != ranges.begin() && std::prev(at)->end == at->begin) {
    std::prev(at)->end = at->end;
    ranges.erase(at);
  }
}

IndexRange intersection(IndexRange a, IndexRange b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {.begin = begin, .end = std::max(begin, std::min(a.end, b.end))};
}

std::string first_to_last(IndexRange range) {
  return std::to_string(range.begin) + " to " + std::to_string(range.end - 1);
}

}  // namespace

Rectangle intersection(const Rectangle& a, const Rectangle& b) {
  return {.rows = intersection(a.rows, b.rows), .cols = intersection(a.cols, b.cols)};
}

std::string to_string(const Rectangle& place) {
  return "rows " + first_to_last(place.rows) + ", columns " + first_to_last(place.cols);
}

bool Coverage::overlaps(const Rectangle& rectangle) const {
  if (rectangle.elements() == 0) return false;
  auto band = bands_.upper_bound(rectangle.rows.begin);
  if (band != bands_.begin()) --band;
  for (; band != bands_.end() && band->first < rectangle.rows.end; ++band) {
    if (band->second.end > rectangle.rows.begin && meets(band->second.cols, rectangle.cols)) return true;
  }
  return false;
}

void Coverage::add(const Rectangle& rectangle) {
  if (rectangle.elements() == 0) return;
  split(rectangle.rows.begin);
  split(rectangle.rows.end);
  for (int64_t row = rectangle.rows.begin; row < rectangle.rows.end;) {
    auto band = bands_.lower_bound(row);
    if (band == bands_.end() || band->first != row) {
      const int64_t end =
          band == bands_.end() ? rectangle.rows.end : std::min(rectangle.rows.end, band->first);
      band = bands_.emplace(row, Band{.end = end, .cols = {}}).first;
    }
    insert(band->second.cols, rectangle.cols);
    row = band->second.end;
  }
  covered_ += rectangle.elements();
  melt(rectangle.rows);
}

/// Lets a band begin at `row` where one covers it.
void Coverage::split(int64_t row) {
  auto band = bands_.upper_bound(row);
  if (band == bands_.begin()) return;
  --band;
  if (band->first >= row || band->second.end <= row) return;
  bands_.emplace(row, Band{.end = band->second.end, .cols = band->second.cols});
  band->second.end = row;
}

void Coverage::melt(IndexRange rows) {
  auto band = bands_.lower_bound(rows.begin);
  if (band != bands_.begin()) --band;
  while (band != bands_.end() && band->first <= rows.end) {
    const auto next = std::next(band);
    if (next == bands_.end()) return;
    if (next->first == band->second.end && next->second.cols == band->second.cols) {
      band->second.end = next->second.end;
      bands_.erase(next);
    } else {
      band = next;
    }
  }
}

std::optional<Rectangle> Coverage::first_gap() const {
  if (complete()) return std::nullopt;
  int64_t row = 0;
  for (const auto& [first, band] : bands_) {
    if (first > row)
      return Rectangle{.rows = {.begin = row, .end = first}, .cols = {.begin = 0, .end = cols_}};
    const IndexRange& head = band.cols.front();
    const int64_t begin = head.begin > 0 ? 0 : head.end;
    if (begin < cols_) {
      const int64_t end = head.begin > 0 ? head.begin : (band.cols.size() > 1 ? band.cols[1].begin : cols_);
      return Rectangle{.rows = {.begin = first, .end = band.end}, .cols = {.begin = begin, .end = end}};
    }
    row = band.end;
  }
  return Rectangle{.rows = {.begin = row, .end = rows_}, .cols = {.begin = 0, .end = cols_}};
}

}  // namespace octet
