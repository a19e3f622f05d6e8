// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/module.h"

#include <algorithm>
#include <typeinfo>

namespace octet {
namespace {

std::string names_of(const std::vector<Module::Child>& children) {
  std::string names;
  for (const Module::Child& child : children) names += (names.empty() ? "" : ", ") + child.name;
  return names.empty() ? "none" : names;
}

void check_shapes(const SourceWeight* weight, const Tensor* bias) {
  if (weight == nullptr) throw ArgumentError("DenseLinear: expected a weight, found none");
  const Tensor& w = weight->tensor;
  if (!is_real(w.dtype()) || w.shape().rank() != 2 || w.shape().elements() == 0)
    throw ArgumentError(
        "DenseLinear: expected a weight [N, K] in F32, F16 or BF16 with at least one element");
  if (bias != nullptr &&
      (!is_real(bias->dtype()) || bias->shape().rank() != 1 || bias->shape()[0] != w.shape()[0])) {
    throw ArgumentError("DenseLinear: expected a bias of " + std::to_string(w.shape()[0]) +
                        " elements in F32, F16 or BF16");
  }
}

QuantMatrixView plain(ConstTensorView x) {
  // The operations that get it only read it.
  return {.data = const_cast<std::byte*>(x.data()), .dtype = x.dtype(), .rows = x.rows(), .cols = x.cols()};
}

}  // namespace

/// One walk over a tree that is copied.
class TreeCopy {
 public:
  const std::shared_ptr<Module>& visit(const Module& module) {
    const auto [place, fresh] = copies_.emplace(&module, nullptr);
    if (!fresh) return place->second;
    place->second = module.copy();
    for (Module::Child& child : place->second->children_) child.module = visit(*child.module);
    return place->second;
  }
  [[nodiscard]] ModuleCopies take() { return std::move(copies_); }

 private:
  ModuleCopies copies_;
};

ModuleCopies copy_tree(const std::shared_ptr<Module>& root) {
  if (root == nullptr) throw ArgumentError("copy_tree: expected a module, found none");
  TreeCopy walk;
  walk.visit(*root);
  return walk.take();
}

std::shared_ptr<Module> Module::copy() const {
  if (typeid(*this) != typeid(Module)) {
    throw ArgumentError(std::string("a module of type ") + typeid(*this).name() +
                        " cannot be copied: it does not override copy()");
  }
  return std::shared_ptr<Module>(new Module(*this));
}

const std::shared_ptr<Module>& Module::child(std::string_view name) const {
  const auto found = std::ranges::find(children_, name, &Child::name);
  if (found == children_.end()) {
    throw ArgumentError("there is no child \"" + std::string(name) + "\"; the children are " +
                        names_of(children_));
  }
  return found->module;
}

void Module::add_child(std::string name, std::shared_ptr<Module> module) {
  if (name.empty() || name.find('.') != std::string::npos)
    throw ArgumentError("a child needs a name without dots, found \"" + name + "\"");
  if (module == nullptr) throw ArgumentError("the child \"" + name + "\" is null");
  if (std::ranges::find(children_, name, &Child::name) != children_.end())
    throw ArgumentError("there is a child \"" + name + "\" already");
  check_child(name, *module);
  children_.push_back({std::move(name), std::move(module)});
}

void Module::replace_child(std::string_view name, std::shared_ptr<Module> module) {
  (void)child(name);
  if (module == nullptr)
    throw ArgumentError("the child \"" + std::string(name) + "\" cannot be replaced by null");
  check_child(name, *module);
  std::ranges::find(children_, name, &Child::name)->module = std::move(module);
}

std::string Module::refusal(std::string_view name, const Module& module) const {
  try {
    check_child(name, module);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return {};
}

void Module::check_child(std::string_view /*name*/, const Module& /*module*/) const {}

DenseLinear::DenseLinear(Backend& backend, std::shared_ptr<SourceWeight> weight,
                         std::shared_ptr<const Tensor> bias)
    : backend_(backend), weight_(std::move(weight)), bias_(std::move(bias)) {
  check_shapes(weight_.get(), bias_.get());
}

void DenseLinear::set_weight(std::shared_ptr<SourceWeight> weight) {
  check_shapes(weight.get(), nullptr);
  if (weight->tensor.shape() != weight_->tensor.shape())
    throw ArgumentError("DenseLinear: another weight must have the shape of the first");
  weight_ = std::move(weight);
}

void DenseLinear::forward(ConstTensorView x, TensorView y) {
  check_linear_call("DenseLinear", *this, x, y);
  multiply_dense(backend_, weight_->tensor, bias_.get(), x, y);
}

void check_linear_call(std::string_view layer, const LinearModule& linear, ConstTensorView x, TensorView y) {
  const std::string name(layer);
  if (!is_real(x.dtype()) || !is_real(y.dtype()))
    throw ArgumentError(name + ": expected x and y in F32, F16 or BF16");
  const Shape& from = x.shape();
  const Shape& to = y.shape();
  if (from.rank() != 2 || from[1] != linear.in_features()) {
    throw ArgumentError(name + ": expected x [T, " + std::to_string(linear.in_features()) + "], found " +
                        std::to_string(from.rank()) + " dimensions, the last of " +
                        std::to_string(from.rank() > 0 ? from[from.rank() - 1] : 0));
  }
  if (to.rank() != 2 || to[0] != from[0] || to[1] != linear.out_features()) {
    throw ArgumentError(name + ": expected y [" + std::to_string(from[0]) + ", " +
                        std::to_string(linear.out_features()) + "]");
  }
}

void multiply_dense(Backend& backend, const Tensor& weight, const Tensor* bias, ConstTensorView x,
                    TensorView y) {
  if (x.shape()[0] == 0) return;
  const ConstTensorView w = weight.view();
  const Precision precision = w.dtype() == DType::kBF16 ? Precision::kBFloat16 : Precision::kFloat32;
  const auto floats = [](int64_t rows, int64_t cols) {
    return std::vector<float>(static_cast<size_t>(rows * cols));
  };
  std::vector<float> wide = floats(x.rows(), x.cols());  // [T, K]
  std::vector<float> sums = floats(x.rows(), w.rows());  // [T, N]
  const TensorView wide_view = view_of(wide.data(), Shape{x.rows(), x.cols()});
  for (int64_t t = 0; t < x.rows(); ++t)
    backend.read_rows(plain(x.slice_rows(t, t + 1)), 0, wide_view.slice_rows(t, t + 1));
  const TensorView sum_view = view_of(sums.data(), Shape{x.rows(), w.rows()});
  backend.gemm({.dense = wide_view, .precision = precision, .quantized = {}}, plain(w),
               bias == nullptr ? ConstTensorView() : bias->view(), sum_view);
  backend.store(sum_view, plain(y), {});
}

}  // namespace octet
