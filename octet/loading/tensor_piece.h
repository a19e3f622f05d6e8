// SPDX-License-Identifier: Apache-2.0
/// A piece of a tensor as a caller hands it to a loader.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/core/dtype.h"
#include "octet/core/shape.h"
#include "octet/loading/coverage.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// A rectangle of a checkpoint's tensor. The tensor is seen as rows along its first dimension, the others
/// making the columns; a vector has one column, a scalar one row of it.
struct TensorPiece {
  std::string name;                               ///< in the checkpoint
  DType dtype = DType::kBF16;                     ///< of the whole tensor
  std::vector<int64_t> shape = {};                ///< of the whole tensor
  std::optional<IndexRange> rows = std::nullopt;  ///< nullopt: all
  std::optional<IndexRange> cols = std::nullopt;  ///< nullopt: all
  std::span<const std::byte> bytes = {};          ///< its elements, row by row, without gaps; little-endian
};

/// What a piece says of its whole tensor.
[[nodiscard]] SourceTensor description_of(const TensorPiece& piece);
/// Where a piece lies in its tensor. Throws ArgumentError where shape, ranges and bytes contradict each
/// other.
[[nodiscard]] Rectangle place_of(const TensorPiece& piece);

}  // namespace octet
