// SPDX-License-Identifier: Apache-2.0
/// The precision rule of a multiply: the bits of a row depend on that row alone.
#include <limits>

#include "tests/conformance/conformance.h"
#include "tests/conformance/multiplication.h"

namespace octet::conformance {
namespace {

class GemmExactness : public Conformance {
 protected:
  /// Calls body(case) for every kind of weight, dense and rounded activations and both layouts.
  template <class Body>
  void for_each_kind(std::initializer_list<Left> lefts, Body&& body) {
    for (const WeightKind& kind : kWeightKinds) {
      for (const Left left : lefts) {
        for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
          const MultiplyCase what{.shape = {.m = 72, .n = 79, .k = 261},
                                  .weight = kind,
                                  .left = left,
                                  .bias = DType::kBF16,
                                  .layout = layout,
                                  .gap = 0};
          SCOPED_TRACE(what.to_string());
          body(what);
        }
      }
    }
  }
};

TEST_P(GemmExactness, GivesARowTheSameBitsAloneAndAmongOthers) {
  for_each_kind({Left::kFloat32, Left::kBFloat16}, [&](const MultiplyCase& what) {
    const Multiplication multiplication(memory(), reference(), what, 11);
    const Strided whole = multiplication.run(candidate());
    int64_t begin = 0;
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 17, 19}) {  // 72 in all
      expect_same_bits(whole, multiplication.run(candidate(), begin, begin + rows), begin);
      begin += rows;
    }
  });
}

TEST_P(GemmExactness, GivesARowTheSameBitsHoweverItsColumnsAreCut) {
  for (const Scales scales : {Scales::kFine, Scales::kCoarse}) {
    for (const Left left : {Left::kFloat32, Left::kBFloat16, Left::kGroupE4M3}) {
      for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
        const MultiplyCase what{.shape = {.m = 48, .n = 79, .k = 701},
                                .weight = {DType::kF8E4M3, scales},
                                .left = left,
                                .bias = DType::kBF16,
                                .layout = layout,
                                .gap = 0};
        SCOPED_TRACE(what.to_string());
        const Multiplication multiplication(memory(), reference(), what, 14);
        const Strided whole = multiplication.run(candidate());
        expect_within(multiplication.run(reference()), whole, multiplication.bound(reference()));
        if (left == Left::kGroupE4M3) continue;
        int64_t begin = 0;
        for (const int64_t rows : {1, 2, 4, 6, 9, 26}) {  // 48 in all
          expect_same_bits(whole, multiplication.run(candidate(), begin, begin + rows), begin);
          begin += rows;
        }
      }
    }
  }
}

TEST_P(GemmExactness, GivesALongRowTheSameBitsAloneAndAmongOthers) {
  for (const WeightKind& kind :
       {WeightKind{DType::kF8E4M3, Scales::kRow}, WeightKind{DType::kBF16, Scales::kNone},
        WeightKind{DType::kF8E4M3, Scales::kCoarse}}) {
    for (const MatrixLayout layout : {MatrixLayout::kRowMajor, MatrixLayout::kLanes64}) {
      const MultiplyCase what{.shape = {.m = 36, .n = 9, .k = 4703},
                              .weight = kind,
                              .left = Left::kBFloat16,
                              .bias = DType::kBF16,
                              .layout = layout,
                              .gap = 0};
      SCOPED_TRACE(what.to_string());
      const Multiplication multiplication(memory(), reference(), what, 17);
      const Strided whole = multiplication.run(candidate());
      expect_within(multiplication.run(reference()), whole, multiplication.bound(reference()));
      int64_t begin = 0;
      for (const int64_t rows : {1, 3, 32}) {  // 36 in all
        expect_same_bits(whole, multiplication.run(candidate(), begin, begin + rows), begin);
        begin += rows;
      }
    }
  }
}

TEST_P(GemmExactness, GivesAQuantizedRowTheSameBitsAloneAndAmongOthers) {
  for_each_kind({Left::kTokenE4M3, Left::kGroupE4M3}, [&](MultiplyCase what) {
    Multiplication multiplication(memory(), reference(), what, 12);
    const Strided whole = multiplication.run(candidate());
    const Strided x = multiplication.x().copy(memory());
    for (const int64_t rows : {1, 5}) {
      what.shape.m = rows;
      Multiplication few(memory(), reference(), what, 12);
      copy_elements(multiplication.w(), few.w());
      few.take_bias(multiplication);
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t k = 0; k < x.cols(); ++k) few.x().set(t, k, x.get(40 + t, k));
      }
      few.quantize(reference());
      expect_same_bits(whole, few.run(candidate()), 40);
    }
  });
}

TEST_P(GemmExactness, GivesTheSameBitsWithAnyNumberOfThreads) {
  const std::unique_ptr<Backend> single = with_threads(1);
  for_each_kind({Left::kFloat32, Left::kBFloat16, Left::kTokenE4M3, Left::kGroupE4M3},
                [&](const MultiplyCase& what) {
                  const Multiplication multiplication(memory(), reference(), what, 13);
                  const Strided one = multiplication.run(*single);
                  expect_same_bits(one, multiplication.run(candidate()));
                });
}

TEST_P(GemmExactness, GivesARowTheSameBitsWhateverTheOtherRowsHold) {
  for_each_kind({Left::kFloat32, Left::kBFloat16}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 14);
    const Strided before = multiplication.run(candidate(), 30, 31);
    for (int64_t t = 0; t < multiplication.x().rows(); ++t) {
      for (int64_t k = 0; k < multiplication.x().cols() && t != 30; ++k) {
        multiplication.x().set(t, k, t % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : 1e30F);
      }
    }
    const Strided all = multiplication.run(candidate());
    expect_same_bits(all, before, 30);
  });
}

TEST_P(GemmExactness, GivesTheSameBitsWhetherItIsToldThatAllCodesAreFiniteOrNot) {
  for_each_kind({Left::kFloat32, Left::kBFloat16}, [&](const MultiplyCase& what) {
    Multiplication multiplication(memory(), reference(), what, 15);
    const Strided untold = multiplication.run(candidate());
    const Strided one = multiplication.run(candidate(), 7, 8);
    multiplication.w().set_codes_finite();
    expect_same_bits(untold, multiplication.run(candidate()));
    expect_same_bits(one, multiplication.run(candidate(), 7, 8));
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmExactness, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
