// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/tensor_piece.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/loading/binding.h"

namespace octet {
namespace {

void check_range(const std::string& name, std::string_view what, IndexRange range, int64_t size) {
  if (range.begin >= 0 && range.begin <= range.end && range.end <= size) return;
  throw ArgumentError("tensor " + quote(name) + ": a piece of " + std::string(what) + " [" +
                      std::to_string(range.begin) + ", " + std::to_string(range.end) +
                      "), expected a range in [0, " + std::to_string(size) + ")");
}

}  // namespace

SourceTensor description_of(const TensorPiece& piece) {
  return {.name = piece.name, .dtype = piece.dtype, .shape = piece.shape, .file = "pushed", .index = 0};
}

Rectangle place_of(const TensorPiece& piece) {
  const SourceTensor tensor = description_of(piece);
  const bool negative = std::any_of(piece.shape.begin(), piece.shape.end(), [](int64_t n) { return n < 0; });
  if (negative ||
      (tensor.elements() == 0 && std::find(piece.shape.begin(), piece.shape.end(), 0) == piece.shape.end()))
    throw ArgumentError("tensor " + quote(piece.name) + ": no tensor has the shape " +
                        to_string(piece.shape));
  const Rectangle place{.rows = piece.rows.value_or(IndexRange{.begin = 0, .end = tensor.rows()}),
                        .cols = piece.cols.value_or(IndexRange{.begin = 0, .end = tensor.cols()})};
  check_range(piece.name, "rows", place.rows, tensor.rows());
  check_range(piece.name, "columns", place.cols, tensor.cols());
  const int64_t expected = place.elements() * dtype_bits(piece.dtype) / 8;
  if (static_cast<int64_t>(piece.bytes.size()) != expected) {
    throw ArgumentError("tensor " + quote(piece.name) + ": a piece of " + to_string(place) + " in " +
                        std::string(to_string(piece.dtype)) + " has " + std::to_string(expected) +
                        " bytes, found " + std::to_string(piece.bytes.size()));
  }
  return place;
}

}  // namespace octet
