// SPDX-License-Identifier: Apache-2.0
/// A linear layer whose weight is FP8 and whose inputs become FP8 on the fly: what `enable_fp8_gemm` puts in
/// the place of a DenseLinear.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octet/core/quant_matrix.h"
#include "octet/layers/fp8_gemm.h"
#include "octet/layers/module.h"

namespace octet {

/// What becomes of the 16-bit weight.
enum class Fp8SourceStorage {
  kKeep,     ///< the linear stays as it was
  kOffload,  ///< a bfloat16 copy in host memory
  kDiscard,  ///< that copy until the FP8 weight is made, then nothing
};

struct Fp8GemmOptions {
  bool cast_inputs = true;  ///< F32 inputs go through FP8, too; false: they use the source weight
  Fp8SourceStorage storage = Fp8SourceStorage::kDiscard;
  bool materialize_on_wrap = true;  ///< quantize while wrapping; false: at the first forward
  std::vector<std::string> devices = {"cuda",
                                      "cpu"};  ///< where the FP8 multiply runs; host backends are "cpu"
  Fp8WeightScale weight_scale = Fp8WeightScale::kTensor;

  /// Throws ArgumentError for kDiscard without cast_inputs, which would need the source weight, and for
  /// values that are none of their enumeration's.
  void validate() const;
  /// Whether the FP8 multiply runs on host backends.
  [[nodiscard]] bool serves_cpu() const;
};

/// A linear whose weight is FP8 and whose inputs become FP8 on the fly: the arithmetic of fp8_gemm.
class Fp8Linear final : public LinearModule {
 public:
  /// Throws ArgumentError when `linear` is null, the options contradict each other, or (on materialization)
  /// the weight has values that are not finite. The linear is not changed.
  Fp8Linear(std::shared_ptr<DenseLinear> linear, Fp8GemmOptions options);
  /// In the same state, over the same FP8 and source weights; with kKeep around a linear of its own.
  Fp8Linear(const Fp8Linear& other);
  Fp8Linear& operator=(const Fp8Linear&) = delete;

  [[nodiscard]] int64_t in_features() const override { return in_features_; }
  [[nodiscard]] int64_t out_features() const override { return out_features_; }
  /// Materializes when needed: at first, and with kKeep whenever the linear has another weight or version.
  /// Throws ArgumentError where the source weight is needed and was discarded, saying what to choose instead.
  void forward(ConstTensorView x, TensorView y) override;
  [[nodiscard]] std::shared_ptr<Module> copy() const override { return std::make_shared<Fp8Linear>(*this); }

  [[nodiscard]] const Fp8GemmOptions& options() const { return options_; }
  [[nodiscard]] bool materialized() const { return fp8_ != nullptr; }
  /// Throws ArgumentError when "cpu" is not among the options' devices, or the source weight was discarded.
  void materialize_fp8_weight();
  /// The next forward quantizes again.
  void invalidate_weight_cache() { stale_ = true; }

  /// The wrapped linear with kKeep, else null.
  [[nodiscard]] const std::shared_ptr<DenseLinear>& linear() const { return linear_; }
  [[nodiscard]] const std::shared_ptr<const Tensor>& bias() const {
    return linear_ ? linear_->bias() : bias_;
  }
  /// The FP8 weight [N, K]; null before materialization. Linears that share a source weight share it.
  [[nodiscard]] const std::shared_ptr<const QuantMatrix>& fp8_weight() const { return fp8_; }
  /// The 16- or 32-bit weight that it holds; null where it was discarded.
  [[nodiscard]] std::shared_ptr<SourceWeight> source() const { return linear_ ? linear_->weight() : source_; }
  /// Codes, scales and source weight that it holds, in bytes; what is shared counts in full.
  [[nodiscard]] int64_t weight_bytes() const;

 private:
  [[nodiscard]] bool fresh() const;
  void quantize(const std::shared_ptr<SourceWeight>& weight);

  Backend& backend_;
  Fp8GemmOptions options_;
  int64_t in_features_;
  int64_t out_features_;
  std::shared_ptr<DenseLinear> linear_;   // kKeep only
  std::shared_ptr<SourceWeight> source_;  // bfloat16; null with kKeep, and when discarded
  std::shared_ptr<const Tensor> bias_;    // [N] or null; null with kKeep
  std::shared_ptr<const QuantMatrix> fp8_;
  std::weak_ptr<SourceWeight> seen_;  // what the codes were made from
  int64_t seen_version_ = 0;
  bool stale_ = false;
};

}  // namespace octet
