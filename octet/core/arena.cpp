// SPDX-License-Identifier: Apache-2.0
#include "octet/core/arena.h"

#include "octet/base/checked_math.h"

namespace octet {

std::byte* Arena::take(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  check(bytes >= 0 && bytes <= buffer_.bytes() && used_ + round_up(bytes, kAlignment) <= buffer_.bytes(),
        "the arena of a step is too small");
  std::byte* data = buffer_.data() + used_;
  used_ += round_up(bytes, kAlignment);
  return data;
}

TensorView Arena::tensor(DType dtype, Shape shape) {
  return {take(shape.elements() * dtype_size(dtype)), dtype, shape};
}

}  // namespace octet
