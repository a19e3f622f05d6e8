// SPDX-License-Identifier: Apache-2.0
/// Sizes of a tensor, row-major, rank 0 to 4.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace octet {

/// Rows, columns or elements [begin, end).
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;

  [[nodiscard]] int64_t size() const { return end - begin; }
  [[nodiscard]] bool operator==(const IndexRange& other) const = default;
};

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  /// Throws ArgumentError on a negative size, more than kMaxRank sizes, or a product that overflows.
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(std::span<const int64_t> sizes);

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int64_t operator[](int axis) const { return sizes_[static_cast<size_t>(axis)]; }
  [[nodiscard]] int64_t elements() const { return elements_; }
  /// "[2, 3]"; a scalar is "[]".
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] bool operator==(const Shape& other) const = default;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
  int64_t elements_ = 1;
};

}  // namespace octet
