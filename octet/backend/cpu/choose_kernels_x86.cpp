// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/choose_kernels.h"
#include "octet/base/error.h"

namespace octet {

const Kernels& kernels_for(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return kernels_portable();
    case CpuIsa::kAvx2:
      return kernels_avx2();
    case CpuIsa::kAvx512:
      return kernels_avx512();
    case CpuIsa::kAvx512Bf16:
      return kernels_avx512_bf16();
    case CpuIsa::kAmxBf16:
      return kernels_amx_bf16();
  }
  throw ConfigError("isa: this build has no kernels for " + std::string(to_string(isa)));
}

}  // namespace octet
