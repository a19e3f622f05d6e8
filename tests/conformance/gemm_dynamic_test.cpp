// SPDX-License-Identifier: Apache-2.0
/// The multiply of rows that become FP8 on the way: to the bit what its steps give one after another.
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "tests/conformance/compare.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/special_values.h"

namespace octet::conformance {
namespace {

/// What a case is made of, beside its shape.
struct Kinds {
  DType x = DType::kBF16;
  Precision precision = Precision::kFloat32;
  DType y = DType::kBF16;
  MatrixLayout layout = MatrixLayout::kLanes64;
  bool one_scale = false;  ///< for the whole of w, as a grid of one block
  bool bias = false;
};

class GemmDynamicConformance : public Conformance {
 protected:
  QuantMatrix weights(int64_t n, int64_t k, const Kinds& kinds) {
    MatrixSpec spec = weight_spec({DType::kF8E4M3, Scales::kRow}, n, k, kinds.layout);
    if (kinds.one_scale) {
      spec.scale_kind = ScaleKind::kGrid;
      append_scale_part(spec.parts, n, k, n, k);
    }
    return make_matrix(memory(), spec);
  }

  /// `backend`'s own operations, one after another.
  Strided by_steps(Backend& backend, const Strided& x, const QuantMatrix& w, ConstTensorView bias,
                   const Kinds& kinds) {
    Strided wide(memory(), x.rows(), x.cols());
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t k = 0; k < x.cols(); ++k) wide.set(t, k, x.get(t, k));
    }
    const QuantMatrix q = make_matrix(memory(), activation_spec(DType::kF8E4M3, x.rows(), x.cols(), 0));
    backend.quantize_activations(wide.view(), kinds.precision, std::nullopt, q.view());
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t k = 0; k < x.cols(); ++k)
        if (!std::isfinite(wide.get(t, k))) q.view().scales[t] = kNaN;
    }
    Strided sums(memory(), x.rows(), w.rows());
    backend.gemm({.dense = {}, .precision = kinds.precision, .quantized = q.view()}, w.view(), bias,
                 sums.view());
    Strided y(memory(), kinds.y, x.rows(), w.rows());
    for (int64_t t = 0; t < x.rows(); ++t) {
      for (int64_t n = 0; n < w.rows(); ++n) y.set(t, n, sums.get(t, n));
    }
    return y;
  }

  void expect_steps(const Strided& x, const QuantMatrix& w, const Kinds& kinds) {
    Random random(7);
    Strided bias(memory(), DType::kBF16, 1, w.rows());
    bias.randomize(random);
    const ConstTensorView added =
        kinds.bias ? ConstTensorView(bias.view().data(), DType::kBF16, Shape{w.rows()}) : ConstTensorView();
    const Strided expected = by_steps(candidate(), x, w, added, kinds);
    Strided y(memory(), kinds.y, x.rows(), w.rows(), 3);
    candidate().gemm_dynamic(x.view(), kinds.precision, w.view(), added, y.view());
    expect_equal(expected, y);
    if (GetParam().threads == 1 || x.rows() == 0) return;
    Strided alone(memory(), kinds.y, x.rows(), w.rows());
    with_threads(1)->gemm_dynamic(x.view(), kinds.precision, w.view(), added, alone.view());
    expect_equal(expected, alone);
  }
};

TEST_P(GemmDynamicConformance, GivesTheBitsOfItsStepsForEveryDtype) {
  Random random(51);
  const std::array<std::pair<DType, Precision>, 4> lefts = {{{DType::kF32, Precision::kFloat32},
                                                             {DType::kF32, Precision::kBFloat16},
                                                             {DType::kF16, Precision::kFloat32},
                                                             {DType::kBF16, Precision::kFloat32}}};
  for (const auto& [dtype, precision] : lefts) {
    for (const DType to : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const bool flag : {false, true}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + " to " + std::string(to_string(to)));
        const Kinds kinds{.x = dtype, .precision = precision, .y = to, .one_scale = flag, .bias = flag};
        Strided x(memory(), dtype, 9, 261, 1);
        x.randomize(random, 3.0F);
        const QuantMatrix w = weights(79, 261, kinds);
        randomize(w, random);
        expect_steps(x, w, kinds);
      }
    }
  }
}

TEST_P(GemmDynamicConformance, GivesTheBitsOfItsStepsForEveryShape) {
  Random random(52);
  for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
    for (const int64_t tokens : {0, 1, 2, 7, 24, 36, 70}) {
      for (const auto& [n, k] : {std::pair{1, 1}, {64, 5}, {200, 130}, {130, 1028}}) {
        SCOPED_TRACE("[" + std::to_string(tokens) + ", " + std::to_string(n) + ", " + std::to_string(k) +
                     "]");
        const Kinds kinds{.layout = layout};
        Strided x(memory(), DType::kBF16, tokens, k);
        x.randomize(random);
        const QuantMatrix w = weights(n, k, kinds);
        randomize(w, random);
        expect_steps(x, w, kinds);
      }
    }
  }
}

TEST_P(GemmDynamicConformance, KeepsWhatIsNotFiniteInItsRowAndItsOutput) {
  Random random(53);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
      if (dtype != DType::kF32 && precision == Precision::kBFloat16) continue;
      SCOPED_TRACE(std::string(to_string(dtype)));
      const Kinds kinds{.x = dtype, .precision = precision, .y = dtype, .bias = true};
      Strided x(memory(), dtype, 8, 67);
      x.randomize(random, 3.0F);
      x.set(1, 3, kNaN);
      x.set(2, 66, std::numeric_limits<float>::infinity());
      x.set(3, 0, -std::numeric_limits<float>::infinity());
      for (int64_t k = 0; k < x.cols(); ++k) x.set(4, k, k % 2 == 0 ? 0.0F : -0.0F);
      x.set(5, 9, std::numeric_limits<float>::max());  // infinite once rounded
      for (int64_t k = 0; k < x.cols(); ++k) x.set(6, k, 1e-12F * static_cast<float>(k - 30));
      const QuantMatrix w = weights(70, 67, kinds);
      randomize(w, random);
      *w.view().element(66, 66) = static_cast<std::byte>(0xff);
      *w.view().element(5, 1) = static_cast<std::byte>(0x7f);
      expect_steps(x, w, kinds);
    }
  }
}

TEST_P(GemmDynamicConformance, RefusesWhatDoesNotFit) {
  const QuantMatrix w = weights(8, 16, {});
  Strided x(memory(), DType::kBF16, 2, 16);
  Strided short_x(memory(), DType::kBF16, 2, 15);
  Strided y(memory(), DType::kBF16, 2, 8);
  Strided short_y(memory(), DType::kBF16, 2, 7);
  const auto call = [&](Strided& from, const QuantMatrix& by, Strided& into) {
    candidate().gemm_dynamic(from.view(), Precision::kFloat32, by.view(), {}, into.view());
  };
  EXPECT_THROW(call(short_x, w, y), ArgumentError);
  EXPECT_THROW(call(x, w, short_y), ArgumentError);
  const QuantMatrix other =
      make_matrix(memory(), weight_spec({DType::kF8E5M2, Scales::kRow}, 8, 16, MatrixLayout::kLanes64));
  EXPECT_THROW(call(x, other, y), ArgumentError);
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmDynamicConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
