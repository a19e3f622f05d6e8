// SPDX-License-Identifier: Apache-2.0
/// The kernels of one instruction set: a table of function pointers for each family. This header and those it
/// includes are compiled with every instruction set's flags: plain data and declarations only, nothing that a
/// compiler would emit as code and a linker could then share with a machine that lacks the instructions.
#pragma once

#include "octet/backend/cpu/ceiling_kernels.h"
#include "octet/backend/cpu/multiply_kernels.h"
#include "octet/backend/cpu/ops_kernels.h"
#include "octet/backend/cpu/quantize_kernels.h"

namespace octet {

/// What may take the place of such members of Kernels: the same bits, but no FP8 code becomes a subnormal
/// float32 that is an operand. Decoding takes a few steps more.
struct KernelsWithoutSubnormals {
  FloatPanels multiply;
  AttentionKernels attention;
  TransposedKernels transposed;
};

struct Kernels {
  MultiplyKernels multiply;
  QuantizeKernels quantize;
  ElementwiseKernels elementwise;
  AttentionKernels attention;
  TransposedKernels transposed;
  CeilingKernels ceiling;
  KernelsWithoutSubnormals without_subnormals;
};

/// Each in a file of its own, kernels_<isa>.cpp, which alone is compiled for that instruction set.
[[nodiscard]] const Kernels& kernels_portable();
[[nodiscard]] const Kernels& kernels_avx2();
[[nodiscard]] const Kernels& kernels_avx512();
[[nodiscard]] const Kernels& kernels_avx512_bf16();
[[nodiscard]] const Kernels& kernels_amx_bf16();

}  // namespace octet
