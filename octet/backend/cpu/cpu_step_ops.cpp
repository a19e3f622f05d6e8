// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

namespace octet {

void CpuBackend::embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) {
  reference_.embed(ids, table, y);
}

void CpuBackend::quantize_activations(ConstTensorView x, Precision precision, std::optional<float> static_scale,
                                      const QuantMatrixView& q) {
  reference_.quantize_activations(x, precision, static_scale, q);
}

void CpuBackend::rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) {
  reference_.rms_norm(x, weight, eps, y);
}

void CpuBackend::add(ConstTensorView x, TensorView y) { reference_.add(x, y); }

void CpuBackend::silu_mul(ConstTensorView gate_up, TensorView y) { reference_.silu_mul(gate_up, y); }

void CpuBackend::rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin, RopeStyle style) {
  reference_.rope(x, head_dim, cos, sin, style);
}

void CpuBackend::kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                          const KvView& cache) {
  reference_.kv_store(keys, values, slots, cache);
}

void CpuBackend::attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                           const AttentionSpec& spec, TensorView y) {
  reference_.attention(q, cache, batch, spec, y);
}

}  // namespace octet
