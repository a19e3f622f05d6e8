// SPDX-License-Identifier: Apache-2.0
#include "octet/core/shape.h"

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {

Shape::Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const int64_t> sizes) {
  // Shapes are made in every step: a message is put together only when it is needed.
  if (sizes.size() > kMaxRank)
    throw ArgumentError("a shape has at most 4 sizes, found " + std::to_string(sizes.size()));
  for (const int64_t size : sizes) {
    if (size < 0) throw ArgumentError("a size is negative: " + std::to_string(size));
    const auto product = checked_mul(elements_, size);
    if (!product) throw ArgumentError("the number of elements overflows");
    sizes_[static_cast<size_t>(rank_++)] = size;
    elements_ = *product;
  }
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) text += (axis > 0 ? ", " : "") + std::to_string((*this)[axis]);
  return text + "]";
}

}  // namespace octet
