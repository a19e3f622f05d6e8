// SPDX-License-Identifier: Apache-2.0
/// Rows of activations that become the cells of a multiply in one go: see CellsRun. Included by
/// elementwise-inl.h.
#pragma once

#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/quantize-inl.h"

namespace octet::OCTET_ISA::lanes {

/// `kOrdinary`: no quotient is NaN, so each has a sign.
template <class T, bool kRounds, bool kOrdinary>
inline void values_to_cells(const CellsRun& run, float scale) {
  const auto* x = reinterpret_cast<const T*>(run.x);
  const F32 by = splat(scale);
  const F32 multiplier = splat(run.multiplier);
  const auto for_cells = [&](auto* cells) {
    for_vectors(run.count, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
      const F32 value = widen_some(x + i, n);
      const F32 q = (kRounds ? round_to<bfloat16>(value) : value) / by;
      const I32 sign = as_int(q) & static_cast<int32_t>(0x80000000U);
      const I32 size = as_int(round_size_to_fp8<E4M3>(q).size);
      narrow_some(as_float(size | (kOrdinary || q == q ? sign : I32{})) * multiplier, cells + i, n);
    });
  };
  if (run.pairs) {
    for_cells(reinterpret_cast<bfloat16*>(run.cells));
  } else {
    for_cells(reinterpret_cast<float*>(run.cells));
  }
}

template <class T, bool kRounds>
inline float quantize_cells_of(const CellsRun& run) {
  const AbsMax found = abs_max_run(reinterpret_cast<const T*>(run.x), run.count);
  // Rounding keeps the order, so the largest of the rounded values is the largest one rounded.
  const float amax = kRounds ? round_to<bfloat16>(splat(found.value))[0] : found.value;
  const float exact = amax / max_of<E4M3>()[0];
  const float scale = exact > run.scale_floor ? exact : run.scale_floor;
  if (found.not_finite == 0 && scale <= 0x1.fffffep127F) {
    values_to_cells<T, kRounds, true>(run, scale);
  } else {
    values_to_cells<T, kRounds, false>(run, scale);
  }
  return found.not_finite == 0 ? scale : __builtin_nanf("");
}

inline float quantize_cells(const CellsRun& run) {
  switch (run.from) {
    case DType::kBF16:
      return quantize_cells_of<bfloat16, false>(run);
    case DType::kF16:
      return quantize_cells_of<float16, false>(run);
    default:
      return run.round_to_bfloat16 ? quantize_cells_of<float, true>(run)
                                   : quantize_cells_of<float, false>(run);
  }
}

}  // namespace octet::OCTET_ISA::lanes
