// SPDX-License-Identifier: Apache-2.0
/// Codes of weights to the bit, and what the statistics say about them.
#include <cmath>
#include <thread>

#include "tests/conformance/compare.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/matrices.h"
#include "tests/conformance/pairwise.h"
#include "tests/conformance/special_values.h"

namespace octet::conformance {
namespace {

constexpr std::array kSources = {DType::kF32, DType::kF16, DType::kBF16};
constexpr std::array kScales = {Scales::kNone, Scales::kRow, Scales::kGrid, Scales::kParts};
constexpr std::array kQuotients = {QuantizeRule::Quotient::kDivide, QuantizeRule::Quotient::kReciprocal,
                                   QuantizeRule::Quotient::kDivideRounded};
constexpr int64_t kRows = 200;
constexpr int64_t kCols = 203;

struct Tile {
  MatrixPlace at;
  int64_t rows;
  int64_t cols;
};

constexpr std::array<Tile, 8> kTiles = {{
    {{0, 0}, kRows, kCols},
    {{0, 0}, 1, 1},
    {{63, 1}, 3, 5},
    {{1, 70}, 17, 129},
    {{64, 64}, 64, 64},
    {{5, 3}, 70, 190},
    {{199, 202}, 1, 1},
    {{128, 0}, 72, kCols},
}};

struct QuantizeCase {
  DType source;
  DType format;
  Scales scales;
  QuantizeRule rule;
  MatrixLayout layout;
  Tile tile;
  int64_t gap;

  [[nodiscard]] std::string to_string() const {
    return std::string(octet::to_string(source)) + " to " + conformance::to_string({format, scales}) +
           ", quotient " + std::to_string(static_cast<int>(rule.quotient)) +
           (rule.nan_saturates ? ", NaN saturates" : ", NaN stays") +
           (layout == MatrixLayout::kLanes64 ? ", lanes" : ", row-major") + ", at (" +
           std::to_string(tile.at.row) + ", " + std::to_string(tile.at.col) + ") " +
           std::to_string(tile.rows) + " x " + std::to_string(tile.cols) + ", gap " + std::to_string(gap);
  }
};

std::vector<QuantizeCase> quantize_cases() {
  std::vector<QuantizeCase> cases;
  for (const auto& v : pairwise_cases({kSources.size(), kFp8.size(), kScales.size(), kQuotients.size(), 2,
                                       kLayouts.size(), kTiles.size(), 2})) {
    cases.push_back({.source = kSources[v[0]],
                     .format = kFp8[v[1]],
                     .scales = kScales[v[2]],
                     .rule = {.quotient = kQuotients[v[3]], .nan_saturates = v[4] == 0},
                     .layout = kLayouts[v[5]],
                     .tile = kTiles[v[6]],
                     .gap = v[7] == 0 ? 0 : 5});
  }
  return cases;
}

void expect_equal_stats(const QuantizeStats& expected, const QuantizeStats& actual) {
  EXPECT_EQ(expected.elements, actual.elements);
  EXPECT_EQ(expected.zeroed, actual.zeroed);
  EXPECT_EQ(expected.saturated, actual.saturated);
  EXPECT_NEAR(expected.signal, actual.signal, 1e-6 * expected.signal);
  EXPECT_NEAR(expected.noise, actual.noise, 1e-6 * expected.noise);
}

class QuantizeConformance : public Conformance {
 protected:
  QuantMatrix target(const QuantizeCase& what) {
    QuantMatrix w = make_matrix(memory(), weight_spec({what.format, what.scales}, kRows, kCols, what.layout));
    Random random(7);
    randomize(w, random);
    return w;
  }

  void expect_held(const QuantizeCase& what, const Strided& x, const QuantMatrix& before) {
    const QuantMatrix expected = copy_matrix(memory(), before);
    const QuantMatrix actual = copy_matrix(memory(), before);
    QuantizeStats expected_stats{.signal = 1, .noise = 2, .elements = 3, .zeroed = 4, .saturated = 5};
    QuantizeStats stats = expected_stats;
    reference().quantize(x.view(), expected.view(), what.tile.at, what.rule, &expected_stats);
    candidate().quantize(x.view(), actual.view(), what.tile.at, what.rule, &stats);
    expect_equal(expected, actual);
    if (std::isfinite(expected_stats.noise)) {
      expect_equal_stats(expected_stats, stats);
    } else {
      EXPECT_FALSE(std::isfinite(stats.noise));
      EXPECT_EQ(expected_stats.zeroed, stats.zeroed);
      EXPECT_EQ(expected_stats.saturated, stats.saturated);
    }
  }
};

TEST_P(QuantizeConformance, WritesTheSameCodesAndStatisticsForEveryTile) {
  Random random(21);
  for (const QuantizeCase& what : quantize_cases()) {
    SCOPED_TRACE(what.to_string());
    Strided x(memory(), what.source, what.tile.rows, what.tile.cols, what.gap);
    x.randomize(random, what.scales == Scales::kNone ? 0.05F : 4.0F);
    expect_held(what, x, target(what));
    if (HasFailure()) return;
  }
}

TEST_P(QuantizeConformance, AgreesOnZerosTiesSubnormalsOverflowAndNan) {
  Random random(22);
  for (const QuantizeCase& what : quantize_cases()) {
    SCOPED_TRACE(what.to_string());
    Strided x(memory(), what.source, what.tile.rows, what.tile.cols, what.gap);
    x.randomize(random);
    sprinkle(x, what.tile.rows == 1 ? 1 : 3);
    expect_held(what, x, target(what));
    if (HasFailure()) return;
  }
}

TEST_P(QuantizeConformance, AgreesOnScalesOfZeroInfinityAndNan) {
  Random random(23);
  for (const QuantizeCase& what : quantize_cases()) {
    if (what.scales != Scales::kRow) continue;
    SCOPED_TRACE(what.to_string());
    Strided x(memory(), what.source, what.tile.rows, what.tile.cols, what.gap);
    x.randomize(random);
    sprinkle(x, 2);
    const QuantMatrix w = target(what);
    constexpr std::array kOdd = {0.0F,
                                 std::numeric_limits<float>::infinity(),
                                 std::numeric_limits<float>::quiet_NaN(),
                                 1e-45F,
                                 3e38F,
                                 1.0F / (448.0F * 512.0F)};
    for (int64_t r = 0; r < kRows; ++r) w.view().scales[r] = kOdd[static_cast<size_t>(r) % kOdd.size()];
    expect_held(what, x, w);
    if (HasFailure()) return;
  }
}

TEST_P(QuantizeConformance, RoundsEveryMidpointBetweenCodesToEven) {
  // The exact midpoint of each two neighbours, and the float32 values on both sides of it.
  for (const DType format : kFp8) {
    std::vector<float> values;
    const int codes = format == DType::kF8E4M3 ? 0x7e : 0x7b;
    for (int code = 0; code < codes; ++code) {
      const auto low = static_cast<std::byte>(code);
      const auto high = static_cast<std::byte>(code + 1);
      const float middle = (load_element(&low, format) + load_element(&high, format)) / 2;
      for (const float value : {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, 1e9F)}) {
        values.push_back(value);
        values.push_back(-value);
      }
    }
    Strided x(memory(), 1, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) x.set(0, static_cast<int64_t>(i), values[i]);
    const QuantMatrix expected =
        make_matrix(memory(), weight_spec({format, Scales::kNone}, 1, x.cols(), MatrixLayout::kRowMajor));
    const QuantMatrix actual = copy_matrix(memory(), expected);
    QuantizeStats stats;
    reference().quantize(x.view(), expected.view(), {}, {}, &stats);
    candidate().quantize(x.view(), actual.view(), {}, {}, &stats);
    expect_equal(expected, actual);
  }
}

TEST_P(QuantizeConformance, TellsTheReciprocalFromTheDivisionAtMidpoints) {
  // Row s has the scale 2 s + 3 and holds that times every midpoint, all exact in float32: the quotient is
  // the midpoint itself, the product with the rounded reciprocal is often just beside it.
  for (const DType format : kFp8) {
    const int64_t midpoints = format == DType::kF8E4M3 ? 0x7e : 0x7b;
    Strided x(memory(), 48, midpoints);
    const QuantMatrix w =
        make_matrix(memory(), weight_spec({format, Scales::kRow}, 48, midpoints, MatrixLayout::kLanes64));
    for (int64_t s = 0; s < x.rows(); ++s) {
      w.view().scales[s] = static_cast<float>(2 * s + 3);
      for (int64_t c = 0; c < midpoints; ++c) {
        const auto low = static_cast<std::byte>(c);
        const auto high = static_cast<std::byte>(c + 1);
        x.set(s, c, w.view().scales[s] * (load_element(&low, format) + load_element(&high, format)) / 2);
      }
    }
    for (const QuantizeRule::Quotient quotient : kQuotients) {
      const QuantMatrix expected = copy_matrix(memory(), w);
      const QuantMatrix actual = copy_matrix(memory(), w);
      QuantizeStats stats;
      reference().quantize(x.view(), expected.view(), {}, {.quotient = quotient}, &stats);
      candidate().quantize(x.view(), actual.view(), {}, {.quotient = quotient}, &stats);
      expect_equal(expected, actual);
    }
  }
}

TEST_P(QuantizeConformance, LetsSeveralThreadsWriteTheRowsOfOnePanel) {
  for (const MatrixLayout layout : kLayouts) {
    const MatrixSpec spec = weight_spec({DType::kF8E4M3, Scales::kRow}, 64, 515, layout);
    const QuantMatrix expected = make_matrix(memory(), spec);
    Random random(24);
    randomize(expected, random);
    const QuantMatrix actual = copy_matrix(memory(), expected);
    Strided x(memory(), 64, 515);
    x.randomize(random);
    QuantizeStats stats;
    reference().quantize(x.view(), expected.view(), {}, {}, &stats);
    constexpr std::array<int64_t, 5> kStarts = {0, 7, 21, 50, 64};
    std::vector<std::thread> workers;
    for (size_t i = 0; i + 1 < kStarts.size(); ++i) {
      workers.emplace_back([&, begin = kStarts[i], end = kStarts[i + 1]] {
        QuantizeStats own;
        const ConstTensorView rows = x.view().slice_rows(begin, end);
        for (int round = 0; round < 10; ++round)
          candidate().quantize(rows, actual.view(), {begin, 0}, {}, &own);
      });
    }
    for (std::thread& worker : workers) worker.join();
    expect_equal(expected, actual);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, QuantizeConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
