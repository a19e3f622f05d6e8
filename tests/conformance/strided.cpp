// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/strided.h"

#include <cstring>

namespace octet::conformance {

float load_element(const std::byte* from, DType dtype) {
  return visit_float(dtype, [&]<class T>() {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return to_float(value);
  });
}

void save_element(float value, std::byte* into, DType dtype) {
  visit_float(dtype, [&]<class T>() {
    const T stored = from_float<T>(value);
    std::memcpy(into, &stored, sizeof(T));
  });
}

Strided::Strided(Memory& memory, DType dtype, int64_t rows, int64_t cols, int64_t gap)
    : dtype_(dtype), rows_(rows), cols_(cols), gap_(gap) {
  const int64_t lead = gap > 0 ? 1 : 0;
  const int64_t elements = rows == 0 ? 0 : lead + rows * (cols + gap) - gap;
  buffer_ = memory.take(elements * dtype_size(dtype));
  if (elements > 0) std::memset(buffer_.data(), 0xff, static_cast<size_t>(buffer_.bytes()));
  for (int64_t r = 0; r < rows; ++r)
    std::memset(element(r, 0), 0, static_cast<size_t>(cols * dtype_size(dtype)));
}

float Strided::get(int64_t row, int64_t col) const {
  return load_element(element(row, col), dtype_);
}

void Strided::set(int64_t row, int64_t col, float value) {
  save_element(value, element(row, col), dtype_);
}

Strided& Strided::randomize(Random& random, float deviation) {
  transform([&](float) { return deviation * random.bell(); });
  return *this;
}

Strided Strided::copy(Memory& memory, int64_t gap) const {
  Strided result(memory, dtype_, rows_, cols_, gap);
  for (int64_t r = 0; r < rows_; ++r) {
    std::memcpy(result.element(r, 0), element(r, 0), static_cast<size_t>(cols_ * dtype_size(dtype_)));
  }
  return result;
}

bool Strided::gaps_untouched() const {
  const std::byte* begin = buffer_.data();
  const int64_t row_bytes_and_gap = (cols_ + gap_) * dtype_size(dtype_);
  for (int64_t i = 0; i < buffer_.bytes(); ++i) {
    const int64_t from_first = i - (first() - begin);
    const bool in_row = from_first >= 0 && from_first % row_bytes_and_gap < cols_ * dtype_size(dtype_);
    if (!in_row && begin[i] != std::byte{0xff}) return false;
  }
  return true;
}

std::span<const std::byte> Strided::row_bytes(int64_t row) const {
  return {element(row, 0), static_cast<size_t>(cols_ * dtype_size(dtype_))};
}

}  // namespace octet::conformance
