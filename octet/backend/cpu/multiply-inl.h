// SPDX-License-Identifier: Apache-2.0
/// The multiply, written once over simd_<isa>.h. Included by kernels_<isa>.cpp after it.
#pragma once

#include "octet/backend/cpu/multiply_kernels.h"

namespace octet::OCTET_ISA {

inline constexpr MultiplyKernels kMultiplyKernels = {};

}  // namespace octet::OCTET_ISA
