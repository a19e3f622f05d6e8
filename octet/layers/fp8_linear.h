// SPDX-License-Identifier: Apache-2.0
/// FP8 for a model that was never made for it: one call puts an Fp8Linear in the place of every DenseLinear
/// of a tree.
#pragma once

#include <functional>
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

  /// Throws ArgumentError for kDiscard without cast_inputs, which would need the source weight.
  void validate() const;
};

/// A linear whose weight is FP8 and whose inputs become FP8 on the fly: the arithmetic of Fp8Gemm.
class Fp8Linear final : public LinearModule {
 public:
  /// Throws ArgumentError when `linear` is null, the options contradict each other, or (on materialization)
  /// the weight has values that are not finite. The linear is not changed.
  Fp8Linear(std::shared_ptr<DenseLinear> linear, Fp8GemmOptions options);

  [[nodiscard]] int64_t in_features() const override { return in_features_; }
  [[nodiscard]] int64_t out_features() const override { return out_features_; }
  /// Materializes when needed: at first, and with kKeep whenever the linear has another weight or version.
  /// Throws ArgumentError where the source weight is needed and was discarded, saying what to choose instead.
  void forward(ConstTensorView x, TensorView y) override;

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
  /// Codes, scales and source weight that it holds, in bytes; what is shared counts in full.
  [[nodiscard]] int64_t weight_bytes() const;

 private:
  [[nodiscard]] std::shared_ptr<SourceWeight> source() const { return linear_ ? linear_->weight() : source_; }
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
  Fp8Gemm gemm_;
};

/// Asked once for each DenseLinear with its first full dotted name ("" for a root); false leaves it as it is.
using ModuleFilter = std::function<bool(std::string_view name, const Module& module)>;

/// Puts an Fp8Linear in the place of every DenseLinear under `root`. A module in two places stays one,
/// linears that share a weight share its FP8 form, nothing inside an Fp8Linear is touched, and a second call
/// changes nothing. Returns the root, or its wrapper where the root is itself a DenseLinear. Throws
/// ArgumentError for a null root, options that contradict each other, a tree without any linear, or weights
/// to be quantized now that hold NaN or infinity (all of them by name); and whatever `filter` throws. The
/// tree is then as it was.
std::shared_ptr<Module> enable_fp8_gemm(std::shared_ptr<Module> root, const Fp8GemmOptions& options = {},
                                        const ModuleFilter& filter = {});

}  // namespace octet
