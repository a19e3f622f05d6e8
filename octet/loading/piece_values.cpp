// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/piece_values.h"

#include <cmath>
#include <cstring>

namespace octet {

float value_at(const std::byte* data, int64_t index, DType dtype) {
  return visit_float(dtype, [&]<class T>() {
    T value;
    std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return to_float(value);
  });
}

float scale_value(const std::byte* data, int64_t index, DType dtype) {
  if (dtype != DType::kF8E8M0) return value_at(data, index, dtype);
  const auto exponent = std::to_integer<int>(data[index]);
  return exponent == 255 ? NAN : std::ldexp(1.0F, exponent - 127);
}

bool is_scale(float value) {
  return std::isfinite(value) && value >= 0;
}

std::string scale_fault(const SourceTensor& scales, int64_t index, float value) {
  return place(scales) + ": scale " + std::to_string(index) + " is " + std::to_string(value) +
         ", expected a finite number that is not negative";
}

int64_t first_nonfinite_row(ConstTensorView x) {
  for (int64_t row = 0; row < x.rows(); ++row) {
    for (int64_t col = 0; col < x.cols(); ++col) {
      if (!std::isfinite(value_at(x.row<std::byte>(row), col, x.dtype()))) return row;
    }
  }
  return -1;
}

bool rounds_to_infinity(float amax, DType dtype) {
  return std::isfinite(amax) &&
         !std::isfinite(visit_float(dtype, [&]<class T>() { return to_float(from_float<T>(amax)); }));
}

ScaleRule scale_rule(const Piece& piece) {
  return {.numerics = piece.rule.numerics,
          .granularity = piece.rule.granularity,
          .format = piece.rule.format,
          .source = piece.source->dtype};
}

std::optional<std::string> value_fault(const Piece& piece, const TileResult& result, DType stored,
                                       bool allow_nonfinite) {
  if (piece.kind == PieceKind::kQuantize && result.nonfinite > 0 && !allow_nonfinite) {
    return place(*piece.source) + ": " + std::to_string(result.nonfinite) +
           " values are NaN or infinite, the first in row " + std::to_string(result.first_nonfinite_row) +
           "; --allow-nonfinite loads them all the same";
  }
  if (result.overflow) {
    return place(*piece.source) + ": holds values beyond the range of " + std::string(to_string(stored)) +
           "; choose --dtype bfloat16 or float32";
  }
  return std::nullopt;
}

}  // namespace octet
