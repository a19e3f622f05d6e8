// SPDX-License-Identifier: Apache-2.0
/// Multiplies by the rows of each head of a stored matrix, straight and transposed.
#include <cmath>
#include <limits>

#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/multiplication.h"

namespace octet::conformance {
namespace {

struct HeadShape {
  int64_t heads = 1;
  int64_t stride = 1;
  int64_t first = 0;
  int64_t count = 1;
  int64_t cols = 1;
};

const std::vector<HeadShape>& shapes() {
  static const std::vector<HeadShape> all = {
      {.heads = 4, .stride = 24, .first = 0, .count = 10, .cols = 12},
      {.heads = 4, .stride = 24, .first = 10, .count = 14, .cols = 12},
      {.heads = 2, .stride = 128, .first = 64, .count = 64, .cols = 70},
      {.heads = 2, .stride = 150, .first = 3, .count = 140, .cols = 130},
      {.heads = 1, .stride = 1, .first = 0, .count = 1, .cols = 1}};
  return all;
}

std::string to_string(const HeadShape& s) {
  return std::to_string(s.heads) + " heads of " + std::to_string(s.stride) + " rows, " +
         std::to_string(s.count) + " from " + std::to_string(s.first) + ", " + std::to_string(s.cols) +
         " columns";
}

class HeadGemm : public Conformance {
 protected:
  QuantMatrix matrix(const WeightKind& kind, const HeadShape& shape, MatrixLayout layout, Random& random) {
    QuantMatrix w = make_matrix(memory(), weight_spec(kind, shape.heads * shape.stride, shape.cols, layout));
    randomize(w, random);
    return w;
  }
  static HeadMatrix heads_of(const QuantMatrix& w, const HeadShape& shape, bool transposed) {
    const int64_t left = transposed ? shape.count : shape.cols;
    const int64_t right = transposed ? shape.cols : shape.count;
    return {.w = w.view(),
            .heads = shape.heads,
            .stride = shape.stride,
            .first = shape.first,
            .count = shape.count,
            .x_stride = left + 2,
            .y_stride = right + 3};
  }
  Strided run(Backend& backend, Strided& x, Precision precision, const HeadMatrix& heads, bool transposed) {
    Strided y(memory(), x.rows(), heads.heads * heads.y_stride);
    y.transform([](float) { return -5.0F; });
    if (transposed) {
      backend.gemm_heads_transposed(x.view(), precision, heads, y.view());
    } else {
      backend.gemm_heads(x.view(), precision, heads, y.view());
    }
    return y;
  }
  /// Calls body(shape, w, x, transposed) for every kind, shape, layout and direction.
  template <class Body>
  void for_each(Body&& body) {
    Random random(77);
    for (const WeightKind& kind : kWeightKinds) {
      if (kind.scales == Scales::kParts) continue;  // a matrix of heads is no merged one
      for (const HeadShape& shape : shapes()) {
        for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
          if (layout == MatrixLayout::kRowMajor && shape.cols != 12) continue;  // one is enough
          for (const bool transposed : {false, true}) {
            SCOPED_TRACE(conformance::to_string(kind) + ", " + to_string(shape) +
                         (layout == MatrixLayout::kLanes64 ? ", lanes" : ", row-major") +
                         (transposed ? ", transposed" : ""));
            const QuantMatrix w = matrix(kind, shape, layout, random);
            const HeadMatrix heads = heads_of(w, shape, transposed);
            Strided x(memory(), 3, shape.heads * heads.x_stride, 3);
            x.randomize(random);
            body(shape, w, x, transposed);
          }
        }
      }
    }
  }
};

TEST_P(HeadGemm, StaysWithinTheErrorOfAFloat32Sum) {
  for_each([&](const HeadShape& shape, const QuantMatrix& w, Strided& x, bool transposed) {
    for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
      const HeadMatrix heads = heads_of(w, shape, transposed);
      const Strided expected = run(reference(), x, precision, heads, transposed);
      const Strided actual = run(candidate(), x, precision, heads, transposed);
      const QuantMatrix positive = absolute(memory(), w);
      Strided magnitude = x.copy(memory());
      magnitude.transform([](float value) { return std::fabs(value); });
      Strided bound =
          run(reference(), magnitude, precision, heads_of(positive, shape, transposed), transposed);
      // What lies between the heads is the same in both and has no error.
      const auto roundings = static_cast<double>(shape.cols + shape.count + 16);
      bound.transform([&](float value) {
        return static_cast<float>(gamma(roundings) * std::fabs(static_cast<double>(value)));
      });
      expect_within(expected, actual, bound);
    }
  });
}

TEST_P(HeadGemm, GivesATokenTheSameBitsAloneAndWithAnyNumberOfThreads) {
  const std::unique_ptr<Backend> single = with_threads(1);
  for_each([&](const HeadShape& shape, const QuantMatrix& w, Strided& x, bool transposed) {
    const HeadMatrix heads = heads_of(w, shape, transposed);
    const Strided all = run(candidate(), x, Precision::kFloat32, heads, transposed);
    expect_same_bits(all, run(*single, x, Precision::kFloat32, heads, transposed));
    Strided one(memory(), 1, x.cols());
    for (int64_t c = 0; c < x.cols(); ++c) one.set(0, c, x.get(2, c));
    const Strided alone = run(candidate(), one, Precision::kFloat32, heads, transposed);
    expect_same_bits(all, alone, 2);
  });
}

TEST_P(HeadGemm, EqualsAMultiplyByTheRowsOfTheHeadToTheBit) {
  for_each([&](const HeadShape& shape, const QuantMatrix& w, Strided& x, bool transposed) {
    if (transposed) return;
    const HeadMatrix heads = heads_of(w, shape, false);
    const Strided all = run(candidate(), x, Precision::kBFloat16, heads, false);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const ConstTensorView of_head(x.view().data() + h * heads.x_stride * 4, DType::kF32,
                                    Shape{x.rows(), shape.cols}, x.view().row_stride());
      Strided y(memory(), x.rows(), w.rows());
      candidate().gemm({.dense = of_head, .precision = Precision::kBFloat16, .quantized = {}}, w.view(), {},
                       y.view());
      for (int64_t t = 0; t < x.rows(); ++t) {
        for (int64_t n = 0; n < shape.count; ++n)
          ASSERT_EQ(all.get(t, h * heads.y_stride + n), y.get(t, h * shape.stride + shape.first + n));
      }
    }
  });
}

TEST_P(HeadGemm, GivesATokenTheSameBitsAloneAndAmongMany) {
  Random random(78);
  const HeadShape shape = {.heads = 3, .stride = 150, .first = 3, .count = 140, .cols = 130};
  const QuantMatrix w = matrix({DType::kF8E4M3, Scales::kRow}, shape, MatrixLayout::kLanes64, random);
  const HeadMatrix heads = heads_of(w, shape, false);
  for (const int64_t tokens : {40, 171, 530}) {
    SCOPED_TRACE(tokens);
    Strided x(memory(), tokens, shape.heads * heads.x_stride);
    x.randomize(random);
    const Strided all = run(candidate(), x, Precision::kBFloat16, heads, false);
    for (const int64_t token : {int64_t{0}, tokens / 2, tokens - 1}) {
      Strided one(memory(), 1, x.cols());
      for (int64_t c = 0; c < x.cols(); ++c) one.set(0, c, x.get(token, c));
      expect_same_bits(all, run(candidate(), one, Precision::kBFloat16, heads, false), token);
    }
  }
}

TEST_P(HeadGemm, GivesNanWhereTheTransposedRowsHoldOne) {
  Random random(3);
  const HeadShape shape{.heads = 2, .stride = 20, .first = 4, .count = 16, .cols = 9};
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    const QuantMatrix w = matrix({dtype, Scales::kRow}, shape, MatrixLayout::kLanes64, random);
    *w.view().element(20 + 7, 5) = std::byte{0x7f};
    Strided x(memory(), 1, 2 * (16 + 2));
    x.randomize(random);
    const HeadMatrix heads = heads_of(w, shape, true);
    const Strided y = run(candidate(), x, Precision::kFloat32, heads, true);
    EXPECT_TRUE(std::isnan(y.get(0, heads.y_stride + 5)));
    EXPECT_FALSE(std::isnan(y.get(0, heads.y_stride + 4)));
    EXPECT_FALSE(std::isnan(y.get(0, 5)));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, HeadGemm, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
