// SPDX-License-Identifier: Apache-2.0
/// What every operation means, in plain loops: sums in float64, one rounding at the end. The other backends
/// are held to this one by tests/conformance, and it serves machines for which there is no other.
#pragma once

#include <string>

#include "octet/backend/backend.h"

namespace octet {

class ReferenceBackend : public Backend {
 public:
  /// `ledger` must outlive the backend. Every operation accepts matrices of any layout; `weight_layout` is
  /// only the one it asks for. `threads` are for the loops of callers: the operations themselves use none.
  explicit ReferenceBackend(MemoryLedger& ledger, MatrixLayout weight_layout = MatrixLayout::kRowMajor,
                            Threads threads = 1);

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Allocator& allocator() override { return allocator_; }
  [[nodiscard]] MemoryLedger& ledger() override { return ledger_; }
  [[nodiscard]] ThreadPool& threads() override { return threads_; }
  [[nodiscard]] MatrixLayout weight_layout() const override { return weight_layout_; }
  [[nodiscard]] bool native_fp8_multiply() const override { return false; }

  int64_t abs_max(ConstTensorView x, int64_t first_segment, int64_t segment, TensorView amax) override;
  void quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at, const QuantizeRule& rule,
                QuantizeStats* stats) override;
  void store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) override;
  void read_rows(const QuantMatrixView& w, int64_t row, TensorView y) override;

  void embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) override;
  void quantize_activations(ConstTensorView x, Precision precision, std::optional<float> static_scale,
                            const QuantMatrixView& q) override;
  void gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) override;
  void gemm_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w, ConstTensorView bias,
                    TensorView y) override;
  void grouped_gemm(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) override;
  void gemm_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y) override;
  void gemm_heads_transposed(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                             TensorView y) override;
  void combine_rows(ConstTensorView x, std::span<const int32_t> rows, ConstTensorView weights,
                    TensorView y) override;
  void rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) override;
  void layer_norm(ConstTensorView x, const NormParameters& parameters, float eps, TensorView y) override;
  void add(ConstTensorView x, TensorView y) override;
  void silu_mul(ConstTensorView gate_up, TensorView y) override;
  void relu(TensorView x) override;
  void rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin,
            RopeStyle style) override;
  void kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                const KvView& cache) override;
  void attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch, const AttentionSpec& spec,
                 TensorView y) override;

 private:
  HostAllocator allocator_;
  MemoryLedger& ledger_;
  MatrixLayout weight_layout_;
  ThreadPool threads_;
};

}  // namespace octet
