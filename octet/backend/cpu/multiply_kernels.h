// SPDX-License-Identifier: Apache-2.0
/// The kernels of the multiply.
#pragma once

#include <cstdint>

namespace octet {

struct MultiplyKernels {};

}  // namespace octet
