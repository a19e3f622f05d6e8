// SPDX-License-Identifier: Apache-2.0
/// What else a load asks for: maxima, copies into a matrix, and rows read back.
#include <cmath>

#include "octet/base/checked_math.h"
#include "tests/conformance/compare.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/special_values.h"

namespace octet::conformance {
namespace {

constexpr std::array kReals = {DType::kF32, DType::kF16, DType::kBF16};
constexpr std::array<MatrixPlace, 4> kPlaces = {{{0, 0}, {1, 3}, {63, 1}, {66, 70}}};

class LoadingConformance : public Conformance {};

TEST_P(LoadingConformance, FindsTheLargestMagnitudeOfEachRun) {
  Random random(31);
  struct Runs {
    int64_t cols, first, segment;
  };
  for (const Runs runs : {Runs{1, 1, 1},
                          {17, 128, 128},
                          {128, 128, 128},
                          {129, 128, 128},
                          {1000, 1000, 1000},
                          {333, 5, 128},
                          {333, 128, 7},
                          {300, 1, 64},
                          {77, 3, 1}}) {
    for (const DType dtype : kReals) {
      for (const int64_t gap : {0, 3}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", " + std::to_string(runs.cols) + " columns, runs of " +
                     std::to_string(runs.first) + " and " + std::to_string(runs.segment));
        Strided x(memory(), dtype, 11, runs.cols, gap);
        x.randomize(random);
        if (gap == 0) sprinkle(x, 13);
        const int64_t count = 1 + ceil_div(std::max<int64_t>(0, runs.cols - runs.first), runs.segment);
        Strided expected(memory(), 11, count, gap);
        Strided actual(memory(), 11, count, gap);
        actual.transform([](float) { return 1e30F; });
        EXPECT_EQ(reference().abs_max(x.view(), runs.first, runs.segment, expected.view()),
                  candidate().abs_max(x.view(), runs.first, runs.segment, actual.view()));
        expect_equal(expected, actual);
      }
    }
  }
}

TEST_P(LoadingConformance, PassesOverNanButNotInfinityInMaxima) {
  for (const DType dtype : kReals) {
    Strided x(memory(), dtype, 2, 100);
    x.transform([](float) { return std::numeric_limits<float>::quiet_NaN(); });
    x.set(1, 99, -std::numeric_limits<float>::infinity());
    Strided amax(memory(), 2, 1);
    EXPECT_EQ(candidate().abs_max(x.view(), 100, 100, amax.view()), 200);
    EXPECT_EQ(amax.get(0, 0), 0.0F);
    EXPECT_EQ(amax.get(1, 0), std::numeric_limits<float>::infinity());
  }
}

TEST_P(LoadingConformance, StoresRealsWithOneRounding) {
  Random random(32);
  for (const DType source : kReals) {
    for (const DType stored : kReals) {
      for (const MatrixLayout layout : kLayouts) {
        for (const MatrixPlace at : kPlaces) {
          SCOPED_TRACE(std::string(to_string(source)) + " as " + std::string(to_string(stored)) + " at (" +
                       std::to_string(at.row) + ", " + std::to_string(at.col) + ")");
          Strided x(memory(), source, 67, 37, at.col % 3);
          x.randomize(random);
          sprinkle(x, 5);
          const QuantMatrix expected =
              make_matrix(memory(), weight_spec({stored, Scales::kNone}, 133, 111, layout));
          randomize(expected, random);
          const QuantMatrix actual = copy_matrix(memory(), expected);
          reference().store(x.view(), expected.view(), at);
          candidate().store(x.view(), actual.view(), at);
          expect_equal(expected, actual);
        }
      }
    }
  }
}

TEST_P(LoadingConformance, StoresAndReadsEqualTypesBitForBit) {
  Random random(33);
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2, DType::kF16, DType::kBF16}) {
    for (const MatrixLayout layout : kLayouts) {
      for (const MatrixPlace at : kPlaces) {
        SCOPED_TRACE(std::string(to_string(dtype)) + " at (" + std::to_string(at.row) + ", " +
                     std::to_string(at.col) + ")");
        Strided x(memory(), dtype, 70, 111 - at.col, 2);
        for (int64_t r = 0; r < x.rows(); ++r) {  // any bits, NaN of every payload among them
          auto* bytes = x.view().row<std::byte>(r);
          for (int64_t i = 0; i < x.cols() * dtype_size(dtype); ++i)
            bytes[i] = static_cast<std::byte>(random.next());
        }
        const QuantMatrix w = make_matrix(memory(), weight_spec({dtype, Scales::kNone}, 140, 111, layout));
        candidate().store(x.view(), w.view(), at);
        Strided y(memory(), dtype, 70, 111, 1);
        candidate().read_rows(w.view(), at.row, y.view());
        EXPECT_TRUE(y.gaps_untouched());
        for (int64_t r = 0; r < x.rows(); ++r) {
          const auto row = y.row_bytes(r).subspan(static_cast<size_t>(at.col * dtype_size(dtype)));
          EXPECT_TRUE(std::ranges::equal(row, x.row_bytes(r))) << "row " << r;
        }
      }
    }
  }
}

TEST_P(LoadingConformance, ReadsRowsBackAsScaledFloats) {
  Random random(34);
  for (const WeightKind& kind : kWeightKinds) {
    for (const MatrixLayout layout : kLayouts) {
      SCOPED_TRACE(to_string(kind) + (layout == MatrixLayout::kLanes64 ? ", lanes" : ", row-major"));
      const QuantMatrix w = make_matrix(memory(), weight_spec(kind, 150, 301, layout));
      randomize(w, random);
      if (is_fp8(kind.dtype)) {
        for (int64_t c = 0; c < 256; ++c) *w.view().element(70, c) = static_cast<std::byte>(c);
      }
      for (const auto& [row, rows] :
           {std::pair<int64_t, int64_t>{0, 150}, {70, 1}, {63, 3}, {149, 1}, {150, 0}}) {
        Strided expected(memory(), rows, 301, 3);
        Strided actual(memory(), rows, 301, 3);
        reference().read_rows(w.view(), row, expected.view());
        candidate().read_rows(w.view(), row, actual.view());
        expect_equal(expected, actual);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LoadingConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
