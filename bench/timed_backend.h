// SPDX-License-Identifier: Apache-2.0
/// A backend that hands every operation on to another and adds up the time that each kind takes.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <utility>

#include "octet/backend/backend.h"

namespace octet::bench {

/// Kinds of operations of a step, as a table of its time shows them.
enum class StepPart {
  kMatrices,
  kAttention,
  kCacheStore,
  kNorms,
  kRotary,
  kGates,
  kSums,
  kEmbedding,
  kQuantize,
};
inline constexpr size_t kStepParts = 9;
using StepSeconds = std::array<double, kStepParts>;
[[nodiscard]] const char* step_part_name(StepPart part);

/// As thread-safe as the backend it wraps, which must outlive it.
class TimedBackend : public Backend {
 public:
  explicit TimedBackend(Backend& inner) : inner_(inner) {}

  /// Of all operations since the last call.
  [[nodiscard]] StepSeconds take_seconds() { return std::exchange(seconds_, {}); }

  [[nodiscard]] std::string describe() const override { return inner_.describe(); }
  [[nodiscard]] Allocator& allocator() override { return inner_.allocator(); }
  [[nodiscard]] MemoryLedger& ledger() override { return inner_.ledger(); }
  [[nodiscard]] ThreadPool& threads() override { return inner_.threads(); }
  [[nodiscard]] MatrixLayout weight_layout() const override { return inner_.weight_layout(); }
  [[nodiscard]] bool native_fp8_multiply() const override { return inner_.native_fp8_multiply(); }

  int64_t abs_max(ConstTensorView x, int64_t first_segment, int64_t segment, TensorView amax) override {
    return inner_.abs_max(x, first_segment, segment, amax);
  }
  void quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at, const QuantizeRule& rule,
                QuantizeStats* stats) override {
    inner_.quantize(x, w, at, rule, stats);
  }
  void store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) override { inner_.store(x, w, at); }
  void read_rows(const QuantMatrixView& w, int64_t row, TensorView y) override {
    inner_.read_rows(w, row, y);
  }

  void embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) override {
    timed(StepPart::kEmbedding, [&] { inner_.embed(ids, table, y); });
  }
  void quantize_activations(ConstTensorView x, Precision precision, std::optional<float> static_scale,
                            const QuantMatrixView& q) override {
    timed(StepPart::kQuantize, [&] { inner_.quantize_activations(x, precision, static_scale, q); });
  }
  void gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) override {
    timed(StepPart::kMatrices, [&] { inner_.gemm(x, w, bias, y); });
  }
  void gemm_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w, ConstTensorView bias,
                    TensorView y) override {
    timed(StepPart::kMatrices, [&] { inner_.gemm_dynamic(x, precision, w, bias, y); });
  }
  void grouped_gemm(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) override {
    timed(StepPart::kMatrices, [&] { inner_.grouped_gemm(x, groups, y); });
  }
  void gemm_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y) override {
    timed(StepPart::kMatrices, [&] { inner_.gemm_heads(x, precision, heads, y); });
  }
  void gemm_heads_transposed(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                             TensorView y) override {
    timed(StepPart::kMatrices, [&] { inner_.gemm_heads_transposed(x, precision, heads, y); });
  }
  void combine_rows(ConstTensorView x, std::span<const int32_t> rows, ConstTensorView weights,
                    TensorView y) override {
    timed(StepPart::kSums, [&] { inner_.combine_rows(x, rows, weights, y); });
  }
  void rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) override {
    timed(StepPart::kNorms, [&] { inner_.rms_norm(x, weight, eps, y); });
  }
  void layer_norm(ConstTensorView x, const NormParameters& parameters, float eps, TensorView y) override {
    timed(StepPart::kNorms, [&] { inner_.layer_norm(x, parameters, eps, y); });
  }
  void add(ConstTensorView x, TensorView y) override {
    timed(StepPart::kSums, [&] { inner_.add(x, y); });
  }
  void silu_mul(ConstTensorView gate_up, TensorView y) override {
    timed(StepPart::kGates, [&] { inner_.silu_mul(gate_up, y); });
  }
  void relu(TensorView x) override {
    timed(StepPart::kGates, [&] { inner_.relu(x); });
  }
  void rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin,
            RopeStyle style) override {
    timed(StepPart::kRotary, [&] { inner_.rope(x, head_dim, cos, sin, style); });
  }
  void kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                const KvView& cache) override {
    timed(StepPart::kCacheStore, [&] { inner_.kv_store(keys, values, slots, cache); });
  }
  void attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch, const AttentionSpec& spec,
                 TensorView y) override {
    timed(StepPart::kAttention, [&] { inner_.attention(q, cache, batch, spec, y); });
  }

 private:
  template <class Operation>
  void timed(StepPart part, Operation&& operation) {
    const auto start = std::chrono::steady_clock::now();
    operation();
    seconds_[static_cast<size_t>(part)] +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Backend& inner_;
  StepSeconds seconds_{};
};

}  // namespace octet::bench
