// SPDX-License-Identifier: Apache-2.0
/// A grouped multiply is, to the bit, one multiply for each group; and weighted sums of rows.
#include <cmath>

#include "tests/conformance/conformance.h"
#include "tests/conformance/multiplication.h"

namespace octet::conformance {
namespace {

/// Rows that each matrix takes, in order; what is left between them belongs to no group.
struct Cut {
  std::vector<int64_t> rows;
  int64_t gap = 0;

  [[nodiscard]] int64_t total() const {
    int64_t sum = 0;
    for (const int64_t n : rows) sum += n + gap;
    return sum;
  }
};

class GroupedGemm : public Conformance {
 protected:
  /// Matrices of one shape, random and of different contents.
  std::vector<Multiplication> matrices(const Cut& cut, MultiplyCase what) {
    std::vector<Multiplication> all;
    what.shape.m = cut.total();
    for (size_t i = 0; i < cut.rows.size(); ++i) all.emplace_back(memory(), reference(), what, 100 + i);
    return all;
  }
  static std::vector<MatrixGroup> groups(std::vector<Multiplication>& matrices, const Cut& cut) {
    std::vector<MatrixGroup> result;
    int64_t row = 0;
    for (size_t i = 0; i < cut.rows.size(); ++i) {
      result.push_back({.w = matrices[i].w().view(), .begin = row, .end = row + cut.rows[i]});
      row += cut.rows[i] + cut.gap;
    }
    return result;
  }
  /// Every group's rows have the bits of a multiply by its own matrix; the rows between are left alone.
  void expect_each(Backend& backend, const Activations& x, const std::vector<MatrixGroup>& groups,
                   const MultiplyCase& what, int64_t rows) {
    Strided y(memory(), rows, what.shape.n, what.gap);
    y.transform([](float) { return -7.0F; });
    backend.grouped_gemm(x, groups, y.view());
    EXPECT_TRUE(y.gaps_untouched());
    int64_t free = 0;
    for (const MatrixGroup& group : groups) {
      for (; free < group.begin; ++free) EXPECT_EQ(y.get(free, 0), -7.0F);
      Strided alone(memory(), group.end - group.begin, what.shape.n);
      candidate().gemm(activation_rows(x, group.begin, group.end), group.w, {}, alone.view());
      expect_same_bits(y, alone, group.begin);
      free = group.end;
    }
    for (; free < rows; ++free) EXPECT_EQ(y.get(free, 0), -7.0F);
  }
};

const std::vector<Cut>& cuts() {
  static const std::vector<Cut> all = {
      {.rows = {1}, .gap = 0}, {.rows = {1, 1, 1, 1}, .gap = 0}, {.rows = {2, 1, 17, 5, 9}, .gap = 3}};
  return all;
}

TEST_P(GroupedGemm, GivesEachGroupTheBitsOfAMultiplyByItsOwnMatrix) {
  const std::unique_ptr<Backend> single = with_threads(1);
  for (const WeightKind& kind : kWeightKinds) {
    for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
      for (const Cut& cut : cuts()) {
        const MultiplyCase what{.shape = {.m = 0, .n = 79, .k = 261},
                                .weight = kind,
                                .left = cut.gap == 0 ? Left::kFloat32 : Left::kBFloat16,
                                .bias = std::nullopt,
                                .layout = layout,
                                .gap = cut.gap};
        SCOPED_TRACE(what.to_string() + ", " + std::to_string(cut.rows.size()) + " groups");
        std::vector<Multiplication> all = matrices(cut, what);
        const Activations x{.dense = all[0].x().view(),
                            .precision = cut.gap == 0 ? Precision::kFloat32 : Precision::kBFloat16,
                            .quantized = {}};
        expect_each(candidate(), x, groups(all, cut), what, cut.total());
        expect_each(*single, x, groups(all, cut), what, cut.total());
      }
    }
  }
}

TEST_P(GroupedGemm, TakesActivationsInFp8WithScalesPerRowOrGroup) {
  for (const int64_t width : {0, 128}) {
    for (const Scales scales : {Scales::kRow, Scales::kGrid}) {
      const Cut& cut = cuts().back();
      const MultiplyCase what{.shape = {.m = 0, .n = 65, .k = 300},
                              .weight = {DType::kF8E4M3, scales},
                              .left = Left::kFloat32,
                              .bias = std::nullopt,
                              .layout = MatrixLayout::kLanes64,
                              .gap = 0};
      SCOPED_TRACE(what.to_string());
      std::vector<Multiplication> all = matrices(cut, what);
      const QuantMatrix q = make_matrix(memory(), activation_spec(DType::kF8E4M3, cut.total(), 300, width));
      reference().quantize_activations(all[0].x().view(), Precision::kFloat32, std::nullopt, q.view());
      const Activations x{.dense = {}, .precision = Precision::kFloat32, .quantized = q.view()};
      expect_each(candidate(), x, groups(all, cut), what, cut.total());
    }
  }
}

TEST_P(GroupedGemm, TakesMoreRowsThanOnePassHoldsAndMatricesStoredDifferently) {
  const Cut cut{.rows = {300, 400, 3, 90}, .gap = 0};
  const MultiplyCase what{.shape = {.m = 0, .n = 33, .k = 40},
                          .weight = {DType::kF8E4M3, Scales::kRow},
                          .left = Left::kFloat32,
                          .bias = std::nullopt,
                          .layout = MatrixLayout::kLanes64,
                          .gap = 0};
  std::vector<Multiplication> all = matrices(cut, what);
  const Activations x{.dense = all[0].x().view(), .precision = Precision::kFloat32, .quantized = {}};
  expect_each(candidate(), x, groups(all, cut), what, cut.total());
  const Activations rounded{.dense = all[0].x().view(), .precision = Precision::kBFloat16, .quantized = {}};
  expect_each(candidate(), rounded, groups(all, cut), what, cut.total());

  MultiplyCase other = what;
  other.weight = {DType::kBF16, Scales::kNone};
  std::vector<Multiplication> mixed = matrices(cut, other);
  std::vector<MatrixGroup> both = groups(all, cut);
  both[2].w = mixed[2].w().view();
  expect_each(candidate(), x, both, what, cut.total());
}

TEST_P(GroupedGemm, TakesFewRowsAndManyInTurn) {
  for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
    for (const Cut& cut : {Cut{.rows = {5, 40, 1, 33, 100, 7, 64, 31, 450, 16, 35}, .gap = 0},
                           Cut{.rows = {509, 40, 2, 511, 1}, .gap = 2}}) {
      const MultiplyCase what{.shape = {.m = 0, .n = 67, .k = 150},
                              .weight = {DType::kF8E4M3, Scales::kRow},
                              .left = Left::kBFloat16,
                              .bias = std::nullopt,
                              .layout = layout,
                              .gap = 0};
      SCOPED_TRACE(what.to_string());
      std::vector<Multiplication> all = matrices(cut, what);
      const Activations x{.dense = all[0].x().view(), .precision = Precision::kBFloat16, .quantized = {}};
      expect_each(candidate(), x, groups(all, cut), what, cut.total());
    }
  }
}

TEST_P(GroupedGemm, DoesNothingForNoGroups) {
  Strided x(memory(), 2, 8);
  Strided y(memory(), 2, 5);
  y.transform([](float) { return 3.0F; });
  candidate().grouped_gemm({.dense = x.view(), .precision = Precision::kFloat32, .quantized = {}}, {},
                           y.view());
  EXPECT_EQ(y.get(1, 4), 3.0F);
}

class CombineRows : public Conformance {};

TEST_P(CombineRows, AddsWeightedRowsWithinTheErrorOfAFloat32Sum) {
  Random random(5);
  for (const int64_t tokens : {1, 3, 70}) {
    for (const int64_t terms : {1, 2, 9}) {
      for (const int64_t width : {1, 16, 67, 1031}) {
        Strided x(memory(), 11, width, 2);
        x.randomize(random);
        Strided weights(memory(), tokens, terms, 1);
        weights.randomize(random);
        std::vector<int32_t> rows;
        for (int64_t i = 0; i < tokens * terms; ++i) rows.push_back(static_cast<int32_t>(random.below(11)));
        Strided expected(memory(), tokens, width);
        Strided actual(memory(), tokens, width, 3);
        reference().combine_rows(x.view(), rows, weights.view(), expected.view());
        candidate().combine_rows(x.view(), rows, weights.view(), actual.view());
        x.transform([](float value) { return std::fabs(value); });
        weights.transform([](float value) { return std::fabs(value); });
        Strided bound(memory(), tokens, width);
        reference().combine_rows(x.view(), rows, weights.view(), bound.view());
        bound.transform([&](float value) {
          return static_cast<float>(gamma(static_cast<double>(terms + 2)) * static_cast<double>(value));
        });
        expect_within(expected, actual, bound);
      }
    }
  }
}

TEST_P(CombineRows, RefusesRowsOutsideOfX) {
  Strided x(memory(), 2, 4);
  Strided weights(memory(), 1, 1);
  Strided y(memory(), 1, 4);
  const std::vector<int32_t> beyond = {2};
  EXPECT_THROW(candidate().combine_rows(x.view(), beyond, weights.view(), y.view()), ArgumentError);
}

INSTANTIATE_TEST_SUITE_P(Backends, GroupedGemm, testing::ValuesIn(candidates()), candidate_name);
INSTANTIATE_TEST_SUITE_P(Backends, CombineRows, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
