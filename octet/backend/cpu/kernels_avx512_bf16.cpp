// SPDX-License-Identifier: Apache-2.0
/// The kernels compiled for avx512_bf16: see kernels.h for what may be included here.
#include "octet/backend/cpu/simd_avx512_bf16.h"
// The kernels, written once over the functions of simd_<isa>.h.
#include "octet/backend/cpu/multiply_bf16-inl.h"
//
#include "octet/backend/cpu/kernels.h"

namespace octet {

const Kernels& kernels_avx512_bf16() {
  static constexpr Kernels kTable = {
      .multiply = OCTET_ISA::kMultiplyKernelsBf16,
      .quantize = {},
      .elementwise = {},
      .attention = {},
  };
  return kTable;
}

}  // namespace octet
