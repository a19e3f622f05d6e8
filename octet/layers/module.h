// SPDX-License-Identifier: Apache-2.0
/// A tree of modules with named children that can be replaced: what `enable_fp8_gemm` walks. A module may
/// hang in several places, and weights may belong to several modules; both are therefore held by shared_ptr.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/core/quant_matrix.h"
#include "octet/core/tensor.h"

namespace octet {

/// Not thread-safe while children change.
class Module {
 public:
  struct Child {
    std::string name;
    std::shared_ptr<Module> module;
  };

  Module() = default;
  virtual ~Module() = default;
  Module& operator=(const Module&) = delete;

  /// A module of the same type with the same children and weights, for `copy_tree`. A derived class overrides
  /// it with `return std::make_shared<Derived>(*this);`. Throws ArgumentError where it has not.
  [[nodiscard]] virtual std::shared_ptr<Module> copy() const;

  /// In the order in which they were added.
  [[nodiscard]] const std::vector<Child>& children() const { return children_; }
  /// Throws ArgumentError naming the children there are when there is none of this name.
  [[nodiscard]] const std::shared_ptr<Module>& child(std::string_view name) const;
  /// Throws ArgumentError when the name is empty, has a dot or is taken, or `module` is null.
  void add_child(std::string name, std::shared_ptr<Module> module);
  /// Puts `module` in the place of a child. Throws ArgumentError when there is none of this name, `module` is
  /// null, or `check_child` refuses it.
  void replace_child(std::string_view name, std::shared_ptr<Module> module);
  /// Why `check_child` refuses `module` in the place of the child `name`; empty when it takes it.
  [[nodiscard]] std::string refusal(std::string_view name, const Module& module) const;

 protected:
  Module(const Module&) = default;
  /// For modules that need children of a certain kind, or read the weights of a child themselves: throws
  /// ArgumentError for another.
  virtual void check_child(std::string_view name, const Module& module) const;

 private:
  friend class TreeCopy;

  std::vector<Child> children_;
};

/// Copies of modules, by what they are copies of.
using ModuleCopies = std::map<const Module*, std::shared_ptr<Module>>;

/// Copies a tree: each module once, however many places hold it, so that what is shared stays shared. The
/// copies hold the same weights as the originals; replacing a child of one changes nothing in the other.
/// Throws ArgumentError for a null root and modules that cannot be copied.
[[nodiscard]] ModuleCopies copy_tree(const std::shared_ptr<Module>& root);

/// A weight that one or several linears multiply with, and what was made of it for all of them.
struct SourceWeight {
  /// A form of the weight, for as long as somebody uses it and the weight is unchanged.
  template <class T>
  struct Derived {
    std::weak_ptr<T> form = {};
    int64_t version = 0;
  };

  Tensor tensor;        ///< [N, K] F32, F16 or BF16
  int64_t version = 0;  ///< to be counted up by whoever changes the values
  Derived<SourceWeight> bfloat16 = {};
  std::array<Derived<const QuantMatrix>, 2> fp8 = {};  ///< by Fp8WeightScale
};

/// The form of `weight` that `derived` holds, made by `make()` where there is none of its version.
template <class T, class Make>
std::shared_ptr<T> derived_form(SourceWeight::Derived<T>& derived, int64_t version, Make&& make) {
  std::shared_ptr<T> form = derived.form.lock();
  if (form != nullptr && derived.version == version) return form;
  form = make();
  derived = {form, version};
  return form;
}

/// y = x * w^T + bias, as a module.
class LinearModule : public Module {
 public:
  [[nodiscard]] virtual int64_t in_features() const = 0;
  [[nodiscard]] virtual int64_t out_features() const = 0;
  /// x [T, in] -> y [T, out], each F32, F16 or BF16; T may be 0. Throws ArgumentError naming the size that
  /// does not fit. One thread at a time: it uses the backend's.
  virtual void forward(ConstTensorView x, TensorView y) = 0;
};

/// The usual linear layer over a 16- or 32-bit weight. Activations are rounded to bfloat16 where the weight
/// is.
class DenseLinear final : public LinearModule {
 public:
  /// bias [N] F32, F16 or BF16, or null. The backend must outlive it. Throws ArgumentError on shapes and
  /// dtypes.
  DenseLinear(Backend& backend, std::shared_ptr<SourceWeight> weight,
              std::shared_ptr<const Tensor> bias = nullptr);

  [[nodiscard]] int64_t in_features() const override { return weight_->tensor.shape()[1]; }
  [[nodiscard]] int64_t out_features() const override { return weight_->tensor.shape()[0]; }
  void forward(ConstTensorView x, TensorView y) override;
  [[nodiscard]] std::shared_ptr<Module> copy() const override { return std::make_shared<DenseLinear>(*this); }

  [[nodiscard]] Backend& backend() const { return backend_; }
  [[nodiscard]] const std::shared_ptr<SourceWeight>& weight() const { return weight_; }
  [[nodiscard]] const std::shared_ptr<const Tensor>& bias() const { return bias_; }
  /// Another weight of the same shape.
  void set_weight(std::shared_ptr<SourceWeight> weight);

 private:
  Backend& backend_;
  std::shared_ptr<SourceWeight> weight_;
  std::shared_ptr<const Tensor> bias_;
};

/// Throws ArgumentError, naming `layer`, unless x is [T, in] and y [T, out] of the real dtypes.
void check_linear_call(std::string_view layer, const LinearModule& linear, ConstTensorView x, TensorView y);
/// y = x * weight^T + bias through the backend's dense multiply.
void multiply_dense(Backend& backend, const Tensor& weight, const Tensor* bias, ConstTensorView x,
                    TensorView y);

}  // namespace octet
