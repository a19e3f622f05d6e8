// SPDX-License-Identifier: Apache-2.0
/// Normalization of hidden states: which kind is chosen once, when the model is built.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

enum class NormKind {
  kRms,         ///< root mean square, with a weight
  kLayer,       ///< centered, with weight and bias
  kLayerPlain,  ///< centered, without either
  kNone,        ///< left as it is
};

class Norm {
 public:
  virtual ~Norm() = default;
  virtual void declare(std::vector<Parameter>& parameters) = 0;
  /// x, y [T, n * size] float32, may be strided, may be the same.
  virtual void forward(ConstTensorView x, TensorView y) const = 0;
};

/// `name` is the checkpoint's ("model.norm"), `size` the width that one mean is taken over.
[[nodiscard]] std::unique_ptr<Norm> make_norm(NormKind kind, const LayerContext& context,
                                              const std::string& name, int64_t size, float eps);

/// Over a whole row or over each head.
class RmsNorm final : public Norm {
 public:
  RmsNorm(const LayerContext& context, const std::string& name, int64_t size, float eps);
  RmsNorm(const RmsNorm&) = delete;  // parameters point into it
  RmsNorm& operator=(const RmsNorm&) = delete;

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, TensorView y) const override;

 private:
  LayerContext context_;
  StoredVector weight_;  // [size]
  float eps_;
};

/// Over a whole row.
class LayerNorm final : public Norm {
 public:
  /// `affine`: with a weight and a bias.
  LayerNorm(const LayerContext& context, const std::string& name, int64_t size, float eps, bool affine);
  LayerNorm(const LayerNorm&) = delete;  // parameters point into it
  LayerNorm& operator=(const LayerNorm&) = delete;

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, TensorView y) const override;

 private:
  LayerContext context_;
  StoredVector weight_;  // [size] or empty
  StoredVector bias_;    // [size] or empty
  float eps_;
};

/// In the place of a norm that a model does without; x and y must be the same memory.
class NoNorm final : public Norm {
 public:
  void declare(std::vector<Parameter>& /*parameters*/) override {}
  void forward(ConstTensorView x, TensorView y) const override;
};

}  // namespace octet
