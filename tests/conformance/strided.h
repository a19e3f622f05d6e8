// SPDX-License-Identifier: Apache-2.0
/// Rows with gaps between them that no operation may read or write: a canary, a NaN in every float type.
#pragma once

#include <span>

#include "octet/core/tensor.h"
#include "tests/conformance/memory.h"
#include "tests/conformance/random.h"

namespace octet::conformance {

class Strided {
 public:
  /// All zeros. `gap` elements lie between rows; with a gap the first row does not begin aligned either.
  Strided(Memory& memory, DType dtype, int64_t rows, int64_t cols, int64_t gap = 0);
  /// float32, by far the most used.
  Strided(Memory& memory, int64_t rows, int64_t cols, int64_t gap = 0)
      : Strided(memory, DType::kF32, rows, cols, gap) {}

  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] TensorView view() { return {first(), dtype_, Shape{rows_, cols_}, cols_ + gap_}; }
  [[nodiscard]] ConstTensorView view() const { return {first(), dtype_, Shape{rows_, cols_}, cols_ + gap_}; }

  [[nodiscard]] float get(int64_t row, int64_t col) const;
  /// Rounds once.
  void set(int64_t row, int64_t col, float value);
  /// Every element from its own value: change(value) -> value.
  template <class Change>
  void transform(Change&& change) {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) set(r, c, change(get(r, c)));
    }
  }
  /// Bell-shaped values of this deviation.
  Strided& randomize(Random& random, float deviation = 1.0F);
  /// A copy of the elements, in memory with or without gaps.
  [[nodiscard]] Strided copy(Memory& memory, int64_t gap = 0) const;
  [[nodiscard]] bool gaps_untouched() const;
  /// The bytes of one row.
  [[nodiscard]] std::span<const std::byte> row_bytes(int64_t row) const;

 private:
  [[nodiscard]] std::byte* first() const { return buffer_.data() + (gap_ > 0 ? dtype_size(dtype_) : 0); }
  [[nodiscard]] std::byte* element(int64_t row, int64_t col) const {
    return first() + (row * (cols_ + gap_) + col) * dtype_size(dtype_);
  }

  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  int64_t gap_;
  Buffer buffer_;
};

/// One element of any float type.
[[nodiscard]] float load_element(const std::byte* from, DType dtype);
/// Rounds once.
void save_element(float value, std::byte* into, DType dtype);

}  // namespace octet::conformance
