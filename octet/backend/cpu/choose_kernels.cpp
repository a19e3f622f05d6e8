// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/choose_kernels.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {

CpuIsa checked_isa(CpuIsa isa) {
  const std::vector<CpuIsa> supported = supported_isas();
  if (std::ranges::find(supported, isa) != supported.end()) return isa;
  std::string names;
  for (const CpuIsa each : supported) names += (names.empty() ? "" : ", ") + std::string(to_string(each));
  throw ConfigError("isa: this machine lacks " + std::string(to_string(isa)) + "; it has " + names);
}

Kernels without_subnormals(Kernels kernels) {
  kernels.multiply.f32 = kernels.without_subnormals.multiply;
  kernels.attention = kernels.without_subnormals.attention;
  kernels.transposed = kernels.without_subnormals.transposed;
  return kernels;
}

}  // namespace octet
