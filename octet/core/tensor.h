// SPDX-License-Identifier: Apache-2.0
/// Dense row-major tensors: an owner and two views. The last dimension is contiguous.
#pragma once

#include <cstddef>
#include <cstdint>

#include "octet/base/error.h"
#include "octet/core/buffer.h"
#include "octet/core/dtype.h"
#include "octet/core/shape.h"

namespace octet {

/// Pointer, type and sizes; owns nothing. `row_stride` is the distance in elements between rows, a row being
/// the last dimension; rows of the leading dimensions follow each other.
template <class Byte>
class BasicTensorView {
 public:
  BasicTensorView() = default;
  BasicTensorView(Byte* data, DType dtype, Shape shape)
      : BasicTensorView(data, dtype, shape, shape.rank() > 0 ? shape[shape.rank() - 1] : 1) {}
  BasicTensorView(Byte* data, DType dtype, Shape shape, int64_t row_stride)
      : data_(data), dtype_(dtype), shape_(shape), row_stride_(row_stride) {}
  /// A mutable view is also a const view.
  template <class Other>
    requires(std::is_const_v<Byte> && !std::is_const_v<Other>)
  BasicTensorView(const BasicTensorView<Other>& other)  // NOLINT(google-explicit-constructor)
      : BasicTensorView(other.data(), other.dtype(), other.shape(), other.row_stride()) {}

  [[nodiscard]] bool empty() const { return data_ == nullptr || shape_.elements() == 0; }
  [[nodiscard]] Byte* data() const { return data_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t row_stride() const { return row_stride_; }
  /// The last dimension.
  [[nodiscard]] int64_t cols() const { return shape_.rank() > 0 ? shape_[shape_.rank() - 1] : 1; }
  /// The product of all but the last dimension.
  [[nodiscard]] int64_t rows() const { return cols() == 0 ? 0 : shape_.elements() / cols(); }

  /// Row `index` as T, which must be the view's own type (or std::byte for a look at the bytes).
  template <class T>
  [[nodiscard]] auto row(int64_t index) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(data_ + index * row_stride_ * dtype_size(dtype_));
  }
  /// Rows [begin, end) of a view of rank 2.
  [[nodiscard]] BasicTensorView slice_rows(int64_t begin, int64_t end) const {
    return {data_ + begin * row_stride_ * dtype_size(dtype_), dtype_, Shape{end - begin, cols()},
            row_stride_};
  }
  /// The same elements under other sizes; rows must be contiguous.
  [[nodiscard]] BasicTensorView reshape(Shape shape) const {
    check(row_stride_ == cols() && shape.elements() == shape_.elements(),
          "reshape needs contiguous rows and equal counts");
    return {data_, dtype_, shape};
  }

 private:
  Byte* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_{0};
  int64_t row_stride_ = 0;
};

using TensorView = BasicTensorView<std::byte>;
using ConstTensorView = BasicTensorView<const std::byte>;

/// Owner of a contiguous tensor. Move-only.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Buffer buffer, DType dtype, Shape shape)
      : buffer_(std::move(buffer)), dtype_(dtype), shape_(shape) {}
  [[nodiscard]] bool empty() const { return buffer_.data() == nullptr; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t bytes() const { return buffer_.bytes(); }
  [[nodiscard]] TensorView view() { return {buffer_.data(), dtype_, shape_}; }
  [[nodiscard]] ConstTensorView view() const { return {buffer_.data(), dtype_, shape_}; }

 private:
  Buffer buffer_;
  DType dtype_ = DType::kF32;
  Shape shape_{0};
};

/// Columns [begin, begin + cols) of x [T, C]. For columns to the left of the first, of which nothing may be
/// touched, `begin` is negative.
template <class Byte>
[[nodiscard]] BasicTensorView<Byte> columns_of(BasicTensorView<Byte> x, int64_t begin, int64_t cols) {
  return {x.data() + begin * dtype_size(x.dtype()), x.dtype(), Shape{x.rows(), cols}, x.row_stride()};
}

/// Views over memory that a caller already holds, for tests and for edges of the library.
[[nodiscard]] inline TensorView view_of(float* data, Shape shape) {
  return {reinterpret_cast<std::byte*>(data), DType::kF32, shape};
}
[[nodiscard]] inline ConstTensorView view_of(const float* data, Shape shape) {
  return {reinterpret_cast<const std::byte*>(data), DType::kF32, shape};
}

}  // namespace octet
