// SPDX-License-Identifier: Apache-2.0
/// The arithmetic of scales: what each numerics profile makes of a largest absolute value, and how it gets
/// from a value and its scale to a code. `docs/number_formats.md` has the same as a table.
#pragma once

#include "octet/backend/backend.h"
#include "octet/core/dtype.h"
#include "octet/quant/quant_spec.h"

namespace octet {

/// What decides the arithmetic of the elements that share one scale.
struct ScaleRule {
  NumericsProfile numerics = NumericsProfile::kVllm;
  Granularity granularity = Granularity::kChannel;
  DType format = DType::kF8E4M3;  ///< of the codes
  DType source = DType::kBF16;    ///< of the values: F32, F16 or BF16
};

/// The multiplier that gives values back: x = scale * q. `amax` is the largest |x| of the elements that share
/// it.
///   vllm, per tensor         amax / max, no floor (an all-zero tensor has the scale 0)
///   vllm, per channel        max(amax / max, 1 / (512 max))
///   vllm, per block          max(amax, 1e-4) / max
///   compressed-tensors       amax / max rounded to the source dtype; 0 becomes that dtype's epsilon
[[nodiscard]] float scale_from_amax(float amax, const ScaleRule& rule);

/// How the codes are made with that scale. For a raw cast take `raw_cast_rule`.
[[nodiscard]] QuantizeRule quantize_rule(const ScaleRule& rule);

/// No scale: clamp to the largest finite value, round to nearest even; NaN stays NaN.
[[nodiscard]] QuantizeRule raw_cast_rule();

/// The distance from 1 to the next value: 2^-23, 2^-10, 2^-7 for F32, F16, BF16.
[[nodiscard]] float epsilon(DType dtype);

}  // namespace octet
