// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/multiplication.h"

#include <cmath>

namespace octet::conformance {
namespace {

std::string_view name(Left left) {
  switch (left) {
    case Left::kFloat32:
      return "float32";
    case Left::kBFloat16:
      return "bfloat16";
    case Left::kTokenE4M3:
      return "E4M3 per token";
    case Left::kTokenE5M2:
      return "E5M2 per token";
    case Left::kGroupE4M3:
      return "E4M3 per group";
  }
  return "";
}

/// In how many pieces a row is summed at the most, before the pieces are added.
int64_t pieces(const QuantMatrixView& w) {
  int64_t most = 1;
  for (const ScalePart& part : w.parts) most = std::max(most, part.grid_cols);
  return most;
}

}  // namespace

std::string MultiplyCase::to_string() const {
  return "M " + std::to_string(shape.m) + ", N " + std::to_string(shape.n) + ", K " +
         std::to_string(shape.k) + ", x " + std::string(name(left)) + ", w " +
         conformance::to_string(weight) + (layout == MatrixLayout::kLanes64 ? " in lanes" : " row-major") +
         ", bias " + (bias ? std::string(octet::to_string(*bias)) : "none") + ", gap " + std::to_string(gap);
}

Multiplication::Multiplication(Memory& memory, Backend& reference, const MultiplyCase& what, uint64_t seed)
    : memory_(memory),
      what_(what),
      x_(memory, what.shape.m, what.shape.k, what.gap),
      w_(make_matrix(memory, weight_spec(what.weight, what.shape.n, what.shape.k, what.layout))),
      bias_(memory, what.bias.value_or(DType::kF32), 1, what.shape.n) {
  Random random(seed);
  x_.randomize(random);
  bias_.randomize(random);
  randomize(w_, random);
  quantize(reference);
}

void Multiplication::quantize(Backend& reference) {
  if (dense()) return;
  const DType dtype = what_.left == Left::kTokenE5M2 ? DType::kF8E5M2 : DType::kF8E4M3;
  q_ = make_matrix(memory_,
                   activation_spec(dtype, x_.rows(), x_.cols(), what_.left == Left::kGroupE4M3 ? 128 : 0));
  reference.quantize_activations(x_.view(), Precision::kFloat32, std::nullopt, q_.view());
}

ConstTensorView Multiplication::bias() const {
  return what_.bias ? ConstTensorView(bias_.view().data(), *what_.bias, Shape{what_.shape.n})
                    : ConstTensorView();
}

Activations Multiplication::activations(int64_t begin, int64_t end) const {
  if (dense())
    return {.dense = x_.view().slice_rows(begin, end), .precision = precision(), .quantized = std::nullopt};
  QuantMatrixView part = q_.view();
  check(begin == 0 && end == part.rows, "quantized rows are taken all together");
  return {.dense = {}, .precision = Precision::kFloat32, .quantized = part};
}

Strided Multiplication::run(Backend& backend, int64_t begin, int64_t end) const {
  Strided y(memory_, end - begin, what_.shape.n, what_.gap);
  backend.gemm(activations(begin, end), w_.view(), bias(), y.view());
  return y;
}

Strided Multiplication::bound(Backend& reference) const {
  // Each product is rounded once and its sum at most K times; the sums of the blocks, two scales, and the
  // bias come on top, and the reference's own last rounding. All of them are relative to the sum of |x| |w| +
  // |bias|.
  Strided magnitude = x_.copy(memory_);
  magnitude.transform([](float value) { return std::fabs(value); });
  const QuantMatrix w = absolute(memory_, w_);
  const QuantMatrix q = q_.empty() ? QuantMatrix() : absolute(memory_, q_);
  Activations left{.dense = magnitude.view(), .precision = precision(), .quantized = std::nullopt};
  if (!dense()) left = {.dense = {}, .precision = Precision::kFloat32, .quantized = q.view()};
  Strided bias_magnitude = bias_.copy(memory_);
  bias_magnitude.transform([](float value) { return std::fabs(value); });
  const ConstTensorView b = what_.bias ? ConstTensorView(bias_magnitude.view()) : ConstTensorView();
  Strided result(memory_, what_.shape.m, what_.shape.n);
  reference.gemm(left, w.view(), b, result.view());
  const double groups = what_.left == Left::kGroupE4M3 ? static_cast<double>(what_.shape.k) / 128 + 1 : 0;
  const double roundings = static_cast<double>(what_.shape.k + pieces(w.view())) + groups + 6;
  result.transform(
      [&](float value) { return static_cast<float>(gamma(roundings) * static_cast<double>(value)); });
  return result;
}

}  // namespace octet::conformance
