// SPDX-License-Identifier: Apache-2.0
/// Single values of source tensors, and what is wrong with the values of a piece: what pull and push share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "octet/loading/binding.h"
#include "octet/loading/tile_filler.h"
#include "octet/quant/scales.h"

namespace octet {

/// Element `index` of packed F32, F16 or BF16.
[[nodiscard]] float value_at(const std::byte* data, int64_t index, DType dtype);
/// Element `index` of packed scales, which may be powers of two in E8M0 as well (255 is its NaN).
[[nodiscard]] float scale_value(const std::byte* data, int64_t index, DType dtype);
/// Scales are finite and not negative.
[[nodiscard]] bool is_scale(float value);
/// What to say of one that is not; `index` is its place in the tensor.
[[nodiscard]] std::string scale_fault(const SourceTensor& scales, int64_t index, float value);

/// The first row that holds NaN or infinity; -1 where none does.
[[nodiscard]] int64_t first_nonfinite_row(ConstTensorView x);
[[nodiscard]] bool rounds_to_infinity(float amax, DType dtype);
/// Of a piece that is quantized.
[[nodiscard]] ScaleRule scale_rule(const Piece& piece);

/// What forbids to keep a piece of these values, if anything does. `stored` is the dtype of its destination.
[[nodiscard]] std::optional<std::string> value_fault(const Piece& piece, const TileResult& result,
                                                     DType stored, bool allow_nonfinite);

}  // namespace octet
