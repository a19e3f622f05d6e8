// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_source.h"

#include <cstring>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

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

int64_t WeightSource::read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                                 std::span<std::byte> into) const {
  const int64_t size = dtype_size(tensor.dtype);
  check(cols.begin >= 0 && cols.begin <= cols.end && cols.end <= tensor.cols() &&
            static_cast<int64_t>(into.size()) == rows.size() * cols.size() * size,
        "the block to read lies outside of the tensor");
  std::vector<std::byte> row(static_cast<size_t>(tensor.cols() * size));
  const auto segment = static_cast<size_t>(cols.size() * size);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    read_rows(tensor, r, r + 1, row);
    std::memcpy(into.data() + static_cast<size_t>(r - rows.begin) * segment, row.data() + cols.begin * size,
                segment);
  }
  return rows.size() * static_cast<int64_t>(row.size());
}

}  // namespace octet
