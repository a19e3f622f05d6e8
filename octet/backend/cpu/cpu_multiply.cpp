// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

namespace octet {

void CpuBackend::gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) {
  multiply_.run(x, w, bias, y);
}

}  // namespace octet
