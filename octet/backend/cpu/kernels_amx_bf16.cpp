// SPDX-License-Identifier: Apache-2.0
/// The kernels compiled for amx_bf16: see kernels.h for what may be included here.
#include "octet/backend/cpu/lanes_avx512.h"
#include "octet/backend/cpu/normal_tables_avx512.h"
#include "octet/backend/cpu/simd_avx512_bf16.h"
#include "octet/backend/cpu/tiles_amx.h"
// The kernels, written once over the functions of simd_<isa>.h and lanes_<isa>.h.
#include "octet/backend/cpu/attention_amx-inl.h"
#include "octet/backend/cpu/ceiling_amx-inl.h"
#include "octet/backend/cpu/elementwise-inl.h"
#include "octet/backend/cpu/multiply_amx-inl.h"
#include "octet/backend/cpu/quantize-inl.h"
#include "octet/backend/cpu/transposed-inl.h"
//
#include "octet/backend/cpu/kernels.h"

namespace octet {
namespace {

// Processors with AMX are Intel's.
using Tables = OCTET_ISA::lanes::DecodedByTables;
constexpr AttentionKernels kAttention =
    OCTET_ISA::kAttentionKernelsAmx<OCTET_ISA::lanes::Reading<Tables, OCTET_ISA::lanes::AskedInQuarters>>;

}  // namespace

const Kernels& kernels_amx_bf16() {
  static constexpr Kernels kTable = {
      .multiply = OCTET_ISA::kMultiplyKernelsAmx,
      .quantize = OCTET_ISA::kQuantizeKernels,
      .elementwise = OCTET_ISA::kElementwiseKernels,
      .attention = kAttention,
      .transposed = OCTET_ISA::kTransposedKernels,
      .ceiling = OCTET_ISA::kCeilingKernelsAmx,
      .without_subnormals = {.multiply = OCTET_ISA::kNormalPanels,
                             .attention = kAttention,
                             .transposed = OCTET_ISA::kNormalTransposedKernels},
  };
  return kTable;
}

}  // namespace octet
