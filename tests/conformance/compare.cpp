// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/compare.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <sstream>
#include <vector>

namespace octet::conformance {
namespace {

bool same_value(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

/// The first few places where two tensors differ, and how many there are: one failure for all.
class Differences {
 public:
  void add(int64_t row, int64_t col, float expected, float actual, double bound = 0) {
    constexpr int64_t kShown = 3;
    if (++count_ > kShown) return;
    text_ << "\n  (" << row << ", " << col << "): expected " << std::hexfloat << expected << ", found "
          << actual << std::defaultfloat << " (" << expected << ", " << actual << ")";
    if (bound > 0) {
      const double error = std::fabs(static_cast<double>(expected) - static_cast<double>(actual));
      text_ << ", error " << error << ", bound " << bound;
    }
  }
  void report() const {
    if (count_ > 0) ADD_FAILURE() << count_ << " elements differ" << text_.str();
  }

 private:
  int64_t count_ = 0;
  std::ostringstream text_;
};

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

/// The bytes of a matrix that hold no element.
std::vector<std::byte> padding(const QuantMatrix& m) {
  const QuantMatrixView view = m.view();
  const auto size = static_cast<size_t>(dtype_size(view.dtype));
  const int64_t bytes = matrix_bytes(view.layout, view.dtype, view.rows, view.cols);
  std::vector<std::byte> result(view.data, view.data + bytes);
  for (int64_t r = 0; r < view.rows; ++r) {
    for (int64_t c = 0; c < view.cols; ++c) {
      std::memset(&result[static_cast<size_t>(view.element(r, c) - view.data)], 0, size);
    }
  }
  return result;
}

}  // namespace

void expect_equal(const Strided& expected, const Strided& actual) {
  ASSERT_EQ(expected.rows(), actual.rows());
  ASSERT_EQ(expected.cols(), actual.cols());
  Differences differences;
  for (int64_t r = 0; r < expected.rows(); ++r) {
    if (same_bytes(expected.row_bytes(r), actual.row_bytes(r))) continue;
    for (int64_t c = 0; c < expected.cols(); ++c) {
      const float x = expected.get(r, c);
      const float y = actual.get(r, c);
      if (!same_value(x, y)) differences.add(r, c, x, y);
    }
  }
  differences.report();
  EXPECT_TRUE(actual.gaps_untouched()) << "memory between rows was written";
}

void expect_equal(const QuantMatrix& expected, const QuantMatrix& actual) {
  const QuantMatrixView a = expected.view();
  const QuantMatrixView b = actual.view();
  ASSERT_EQ(expected.bytes(), actual.bytes());
  const auto bytes = static_cast<size_t>(matrix_bytes(a.layout, a.dtype, a.rows, a.cols));
  if (same_bytes({a.data, bytes}, {b.data, bytes})) return;
  Differences differences;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.cols; ++c) {
      const float x = load_element(a.element(r, c), a.dtype);
      const float y = load_element(b.element(r, c), b.dtype);
      if (!same_value(x, y)) differences.add(r, c, x, y);
    }
  }
  differences.report();
  EXPECT_EQ(padding(expected), padding(actual)) << "padding was written";
}

void expect_same_bits(const Strided& expected, const Strided& actual, int64_t first_row) {
  ASSERT_LE(first_row + actual.rows(), expected.rows());
  Differences differences;
  for (int64_t r = 0; r < actual.rows(); ++r) {
    if (same_bytes(expected.row_bytes(first_row + r), actual.row_bytes(r))) continue;
    for (int64_t c = 0; c < actual.cols(); ++c) {
      const float x = expected.get(first_row + r, c);
      const float y = actual.get(r, c);
      if (std::bit_cast<uint32_t>(x) != std::bit_cast<uint32_t>(y)) differences.add(r, c, x, y);
    }
  }
  differences.report();
}

void expect_within(const Strided& expected, const Strided& actual, const Strided& bound) {
  ASSERT_EQ(expected.rows(), actual.rows());
  ASSERT_EQ(expected.cols(), actual.cols());
  Differences differences;
  for (int64_t r = 0; r < expected.rows(); ++r) {
    for (int64_t c = 0; c < expected.cols(); ++c) {
      const float x = expected.get(r, c);
      const float y = actual.get(r, c);
      const double limit = static_cast<double>(bound.get(r, c));
      const bool near = std::fabs(static_cast<double>(x) - static_cast<double>(y)) <= limit;
      if (!(std::isfinite(x) ? near : (x == y || (std::isnan(x) && std::isnan(y)))))
        differences.add(r, c, x, y, limit);
    }
  }
  differences.report();
  EXPECT_TRUE(actual.gaps_untouched()) << "memory between rows was written";
}

}  // namespace octet::conformance
