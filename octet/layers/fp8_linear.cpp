// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_linear.h"

#include <algorithm>
#include <utility>

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
  matrix->set_codes_finite();  // as the weight, or it would have been refused
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

}  // namespace

bool Fp8GemmOptions::serves_cpu() const {
  return std::ranges::find(devices, "cpu") != devices.end();
}

void Fp8GemmOptions::validate() const {
  if (storage != Fp8SourceStorage::kKeep && storage != Fp8SourceStorage::kOffload &&
      storage != Fp8SourceStorage::kDiscard) {
    throw ArgumentError("Fp8GemmOptions: expected kKeep, kOffload or kDiscard as storage, found the number " +
                        std::to_string(static_cast<int>(storage)));
  }
  if (weight_scale != Fp8WeightScale::kTensor && weight_scale != Fp8WeightScale::kChannel) {
    throw ArgumentError("Fp8GemmOptions: expected kTensor or kChannel as weight_scale, found the number " +
                        std::to_string(static_cast<int>(weight_scale)));
  }
  if (storage == Fp8SourceStorage::kDiscard && !cast_inputs) {
    throw ArgumentError(
        "Fp8GemmOptions: kDiscard cannot go with cast_inputs = false: inputs that are not cast need the "
        "source weight; choose kOffload or kKeep");
  }
}

Fp8Linear::Fp8Linear(std::shared_ptr<DenseLinear> linear, Fp8GemmOptions options)
    : backend_((check(linear != nullptr, "Fp8Linear: expected a linear, found none"), linear->backend())),
      options_(std::move(options)),
      in_features_(linear->in_features()),
      out_features_(linear->out_features()) {
  options_.validate();
  const std::shared_ptr<SourceWeight> weight = linear->weight();
  const bool now = options_.materialize_on_wrap && options_.serves_cpu();
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

Fp8Linear::Fp8Linear(const Fp8Linear& other)
    : LinearModule(other),
      backend_(other.backend_),
      options_(other.options_),
      in_features_(other.in_features_),
      out_features_(other.out_features_),
      linear_(other.linear_ == nullptr ? nullptr : std::make_shared<DenseLinear>(*other.linear_)),
      source_(other.source_),
      bias_(other.bias_),
      fp8_(other.fp8_),
      seen_(other.seen_),
      seen_version_(other.seen_version_),
      stale_(other.stale_) {}

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
  if (!options_.serves_cpu()) {
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
  const bool uses_source = !options_.serves_cpu() || (x.dtype() == DType::kF32 && !options_.cast_inputs);
  if (uses_source) {
    const auto weight = source();
    if (weight == nullptr) throw_discarded("an input needs the source weight");
    multiply_dense(backend_, weight->tensor, bias().get(), x, y);
    return;
  }
  if (!fresh()) materialize_fp8_weight();
  fp8_gemm(backend_, x, fp8_->view(), bias() == nullptr ? ConstTensorView() : bias()->view(), y);
}

int64_t Fp8Linear::weight_bytes() const {
  const auto weight = source();
  return (fp8_ == nullptr ? 0 : fp8_->bytes()) + (weight == nullptr ? 0 : weight->tensor.bytes());
}

}  // namespace octet
