// SPDX-License-Identifier: Apache-2.0
/// The backend for the machine's own processor: kernels for its best instruction set, chosen once, at
/// construction.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/cpu_attention.h"
#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/multiply.h"

namespace octet {

/// `threads`: 1 to 1024; `isa` empty for the best that the machine supports. `ledger` must outlive the
/// backend. Throws ConfigError when the machine lacks `isa`, ArgumentError on the number of threads.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(Threads threads, std::optional<CpuIsa> isa,
                                                        MemoryLedger& ledger);

/// The operations of loading are in cpu_loading_ops.cpp, the multiply in cpu_multiply.cpp, those of a step in
/// cpu_step_ops.cpp; each prepares the work and calls a kernel of the table.
class CpuBackend final : public Backend {
 public:
  CpuBackend(Threads threads, CpuIsa isa, const Kernels& kernels, MemoryLedger& ledger);

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Allocator& allocator() override { return allocator_; }
  [[nodiscard]] MemoryLedger& ledger() override { return ledger_; }
  [[nodiscard]] ThreadPool& threads() override { return threads_; }
  [[nodiscard]] MatrixLayout weight_layout() const override { return MatrixLayout::kLanes64; }
  [[nodiscard]] bool native_fp8_multiply() const override { return false; }
  [[nodiscard]] CpuIsa isa() const { return isa_; }

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
  void multiply_head_transposed(std::span<const float> x, Precision precision, const QuantMatrixView& w,
                                int64_t begin, float* y) const;
  [[nodiscard]] bool multiply_panels_transposed(std::span<const float> x, const QuantMatrixView& w,
                                                int64_t begin, float* y) const;

  CpuIsa isa_;
  Kernels kernels_;
  MemoryLedger& ledger_;
  HostAllocator allocator_;
  ThreadPool threads_;
  CpuMultiply multiply_;
  CpuAttention attention_;
};

}  // namespace octet
