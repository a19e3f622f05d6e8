// SPDX-License-Identifier: Apache-2.0
/// The kernels of loading: absolute maxima, quantizing, storing, reading back.
#pragma once

#include <cstdint>

namespace octet {

struct QuantizeKernels {};

}  // namespace octet
