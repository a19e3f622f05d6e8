// SPDX-License-Identifier: Apache-2.0
/// The kernels compiled for avx2: see kernels.h for what may be included here.
#include "octet/backend/cpu/simd_avx2.h"
// The kernels, written once over the functions of simd_<isa>.h.
#include "octet/backend/cpu/multiply-inl.h"
//
#include "octet/backend/cpu/kernels.h"

namespace octet {

const Kernels& kernels_avx2() {
  static constexpr Kernels kTable = {
      .multiply = OCTET_ISA::kMultiplyKernels,
      .quantize = {},
      .elementwise = {},
      .attention = {},
  };
  return kTable;
}

}  // namespace octet
