// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

namespace octet {

int64_t CpuBackend::abs_max(ConstTensorView x, int64_t first_segment, int64_t segment, TensorView amax) {
  return reference_.abs_max(x, first_segment, segment, amax);
}

void CpuBackend::quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at, const QuantizeRule& rule,
                          QuantizeStats& stats) {
  reference_.quantize(x, w, at, rule, stats);
}

void CpuBackend::store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) { reference_.store(x, w, at); }

void CpuBackend::read_rows(const QuantMatrixView& w, int64_t row, TensorView y) { reference_.read_rows(w, row, y); }

}  // namespace octet
