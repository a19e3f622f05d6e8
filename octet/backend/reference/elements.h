// SPDX-License-Identifier: Apache-2.0
/// Single elements of any float type, and the one rule by which a value becomes an FP8 code. The reference's
/// own.
#pragma once

#include <cstddef>
#include <span>

#include "octet/backend/backend.h"

namespace octet::reference {

/// Exact. `from` need not be aligned.
[[nodiscard]] float load(const std::byte* from, DType dtype);
/// One rounding. `into` need not be aligned.
void save(float value, std::byte* into, DType dtype);

/// Element (row, col) of a view.
[[nodiscard]] float load(ConstTensorView x, int64_t row, int64_t col);
/// Row `row` of a matrix without its scales, widened: out [C].
void load_codes(const QuantMatrixView& w, int64_t row, std::span<float> out);

/// The largest |x|, NaN passed over; 0 for none.
[[nodiscard]] float abs_max(std::span<const float> values);

/// min(max(x, -limit), limit) as CUDA's fmin and fmax make it: NaN becomes +limit.
[[nodiscard]] float clamp_nan_to_max(float value, float limit);

/// encode(clamp(quotient)) in an FP8 dtype.
[[nodiscard]] uint8_t encode(float quotient, DType dtype, bool nan_saturates);

/// max(amax / max, 1 / (448 * 512)): one scale for a token, or for a head of a token in the cache.
[[nodiscard]] float dynamic_scale(float amax, DType dtype);

}  // namespace octet::reference
