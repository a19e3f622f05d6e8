// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_source.h"

#include "octet/base/checked_math.h"

namespace octet {

int64_t SourceTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
    product = checked_mul(product, size).value_or(0);
  }
  return product;
}

int64_t SourceTensor::bytes() const {
  return checked_mul(elements(), dtype_bits(dtype)).value_or(0) / 8;
}

}  // namespace octet
