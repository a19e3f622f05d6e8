// SPDX-License-Identifier: Apache-2.0
/// From an instruction set to its table of kernels.
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/base/cpu_features.h"

namespace octet {

/// Throws ConfigError when this build has no kernels for `isa`. That the machine supports it is the caller's
/// to know.
[[nodiscard]] const Kernels& kernels_for(CpuIsa isa);

/// `kernels` with those in place that have no subnormal operands.
[[nodiscard]] Kernels without_subnormals(Kernels kernels);

/// `isa` itself. Throws ConfigError naming what the machine has when it lacks `isa`.
[[nodiscard]] CpuIsa checked_isa(CpuIsa isa);

}  // namespace octet
