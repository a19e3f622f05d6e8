// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_linear.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "octet/base/faults.h"

namespace octet {
namespace {

std::shared_ptr<const QuantMatrix> quantized(Backend& backend, const Tensor& source, Fp8WeightScale scale) {
  MatrixSpec spec{.dtype = DType::kF8E4M3,
                  .rows = source.shape()[0],
                  .cols = source.shape()[1],
                  .layout = backend.weight_layout(),
                  .scale_kind = ScaleKind::kRow};
  auto matrix =
      std::make_shared<QuantMatrix>(backend.allocator(), backend.ledger(), "weights", std::move(spec));
  quantize_fp8_weight(backend, source.view(), scale, matrix->view());
  return matrix;
}

/// In bfloat16; itself where it is so already.
std::shared_ptr<SourceWeight> bfloat16_copy(Backend& backend, const std::shared_ptr<SourceWeight>& weight) {
  const Tensor& from = weight->tensor;
  if (from.dtype() == DType::kBF16) return weight;
  const int64_t bytes = from.shape().elements() * dtype_size(DType::kBF16);
  Tensor copy(Buffer(backend.allocator(), backend.ledger(), "weights", bytes), DType::kBF16, from.shape());
  const TensorView into = copy.view();
  backend.store(from.view(),
                {.data = into.data(), .dtype = DType::kBF16, .rows = into.rows(), .cols = into.cols()}, {});
  return std::make_shared<SourceWeight>(SourceWeight{.tensor = std::move(copy), .version = weight->version});
}

[[noreturn]] void throw_discarded(const std::string& trouble) {
  throw ArgumentError(
      "Fp8Linear: " + trouble +
      ", because the 16-bit weight was dropped (Fp8SourceStorage::kDiscard); choose kOffload or kKeep");
}

/// One linear and all places that hold it.
struct Found {
  std::string name;  // the first
  std::shared_ptr<DenseLinear> linear;
  std::vector<std::pair<Module*, std::string>> places;
};

class Finder {
 public:
  void visit(const std::shared_ptr<Module>& module, const std::string& name) {
    if (std::dynamic_pointer_cast<LinearModule>(module)) {
      any_linear_ = true;
      if (auto linear = std::dynamic_pointer_cast<DenseLinear>(module)) find(linear, name);
      return;
    }
    if (!visited_.insert(module.get()).second) return;
    for (const Module::Child& child : module->children()) {
      visit(child.module, name.empty() ? child.name : name + "." + child.name);
      if (const auto place = index_.find(child.module.get()); place != index_.end())
        found_[place->second].places.emplace_back(module.get(), child.name);
    }
  }
  [[nodiscard]] std::vector<Found>& found() { return found_; }
  [[nodiscard]] bool any_linear() const { return any_linear_; }

 private:
  void find(const std::shared_ptr<DenseLinear>& linear, const std::string& name) {
    if (index_.emplace(linear.get(), found_.size()).second) found_.push_back({name, linear, {}});
  }

  std::vector<Found> found_;
  std::map<const Module*, size_t> index_;
  std::set<const Module*> visited_;
  bool any_linear_ = false;
};

void check_weights(const std::vector<Found>& found) {
  Faults faults;
  for (const Found& each : found) {
    const int64_t count = count_not_finite(each.linear->backend(), each.linear->weight()->tensor.view());
    if (count == 0) continue;
    faults.add(
        "the weight of '" + each.name + "' has " + std::to_string(count) +
        " values that are NaN or infinite; FP8 has no scale for them: mend it, or leave the layer out");
  }
  faults.throw_if_any<ArgumentError>("enable_fp8_gemm");
}

bool serves_cpu(const Fp8GemmOptions& options) {
  return std::ranges::find(options.devices, "cpu") != options.devices.end();
}

}  // namespace

void Fp8GemmOptions::validate() const {
  if (storage == Fp8SourceStorage::kDiscard && !cast_inputs) {
    throw ArgumentError(
        "Fp8GemmOptions: kDiscard cannot go with cast_inputs = false: inputs that are not cast need the "
        "source "
        "weight; choose kOffload or kKeep");
  }
}

Fp8Linear::Fp8Linear(std::shared_ptr<DenseLinear> linear, Fp8GemmOptions options)
    : backend_((check(linear != nullptr, "Fp8Linear: expected a linear, found none"), linear->backend())),
      options_(std::move(options)),
      in_features_(linear->in_features()),
      out_features_(linear->out_features()),
      gemm_(backend_) {
  options_.validate();
  const std::shared_ptr<SourceWeight> weight = linear->weight();
  const bool now = options_.materialize_on_wrap && serves_cpu(options_);
  if (now) quantize(weight);
  if (options_.storage == Fp8SourceStorage::kKeep) {
    linear_ = std::move(linear);
    return;
  }
  bias_ = linear->bias();
  if (now && options_.storage == Fp8SourceStorage::kDiscard) return;
  source_ = derived_form(weight->bfloat16, weight->version, [&] { return bfloat16_copy(backend_, weight); });
  if (now) seen_ = source_;
}

void Fp8Linear::quantize(const std::shared_ptr<SourceWeight>& weight) {
  auto& derived = weight->fp8[static_cast<size_t>(options_.weight_scale)];
  if (stale_ && derived.form.lock() == fp8_) derived = {};  // made of what the weight was before
  fp8_ = derived_form(derived, weight->version,
                      [&] { return quantized(backend_, weight->tensor, options_.weight_scale); });
  seen_ = weight;
  seen_version_ = weight->version;
  stale_ = false;
}

bool Fp8Linear::fresh() const {
  if (fp8_ == nullptr || stale_) return false;
  const auto weight = source();
  return weight == nullptr || (seen_.lock() == weight && seen_version_ == weight->version);
}

void Fp8Linear::materialize_fp8_weight() {
  if (!serves_cpu(options_)) {
    throw ArgumentError("Fp8Linear: cannot be materialized: its options' devices do not name \"cpu\"");
  }
  if (fresh()) return;
  const auto weight = source();
  if (weight == nullptr) throw_discarded("its FP8 weight cannot be made again");
  quantize(weight);
  if (options_.storage == Fp8SourceStorage::kDiscard) source_.reset();
}

void Fp8Linear::forward(ConstTensorView x, TensorView y) {
  check_linear_call("Fp8Linear", *this, x, y);
  const bool uses_source = !serves_cpu(options_) || (x.dtype() == DType::kF32 && !options_.cast_inputs);
  if (uses_source) {
    const auto weight = source();
    if (weight == nullptr) throw_discarded("an input needs the source weight");
    multiply_dense(backend_, weight->tensor, bias().get(), x, y);
    return;
  }
  if (!fresh()) materialize_fp8_weight();
  gemm_.run(x, fp8_->view(), bias() == nullptr ? ConstTensorView() : bias()->view(), y);
}

int64_t Fp8Linear::weight_bytes() const {
  const auto weight = source();
  return (fp8_ == nullptr ? 0 : fp8_->bytes()) + (weight == nullptr ? 0 : weight->tensor.bytes());
}

std::shared_ptr<Module> enable_fp8_gemm(std::shared_ptr<Module> root, const Fp8GemmOptions& options,
                                        const ModuleFilter& filter) {
  if (root == nullptr) throw ArgumentError("enable_fp8_gemm: expected a module, found none");
  options.validate();
  Finder finder;
  finder.visit(root, "");
  if (!finder.any_linear())
    throw ArgumentError("enable_fp8_gemm: the tree has no linear: there is nothing to wrap");
  std::vector<Found>& found = finder.found();
  // All questions come before the first change.
  if (filter) std::erase_if(found, [&](const Found& each) { return !filter(each.name, *each.linear); });
  if (options.materialize_on_wrap && serves_cpu(options)) check_weights(found);
  for (Found& each : found) {
    const auto wrapper = std::make_shared<Fp8Linear>(each.linear, options);
    for (const auto& [parent, name] : each.places) parent->replace_child(name, wrapper);
    if (each.linear == root) root = wrapper;
    each.linear.reset();  // the tree's last hold on a weight that is not kept
  }
  return root;
}

}  // namespace octet
