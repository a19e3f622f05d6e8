// SPDX-License-Identifier: Apache-2.0
/// The kernels of a step beside the multiply.
#pragma once

#include <cstdint>

namespace octet {

struct ElementwiseKernels {};
struct AttentionKernels {};

}  // namespace octet
