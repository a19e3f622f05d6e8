// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/choose_kernels.h"
#include "octet/base/error.h"

namespace octet {

const Kernels& kernels_for(CpuIsa isa) {
  if (isa == CpuIsa::kPortable) return kernels_portable();
  throw ConfigError("isa: this build has no kernels for " + std::string(to_string(isa)) +
                    "; it has portable");
}

}  // namespace octet
