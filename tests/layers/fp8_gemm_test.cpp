// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/fp8_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "octet/backend/factory.h"
#include "octet/core/float8.h"

namespace octet {
namespace {

constexpr int64_t kRows = 70;
constexpr int64_t kCols = 130;

struct GemmRig {
  MemoryLedger ledger;
  std::unique_ptr<Backend> backend = make_backend({.device = "cpu", .threads = 2}, ledger);

  QuantMatrix matrix(int64_t rows = kRows, int64_t cols = kCols) {
    return {backend->allocator(),
            ledger,
            "weights",
            {.rows = rows, .cols = cols, .layout = backend->weight_layout(), .scale_kind = ScaleKind::kRow}};
  }
};

std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  // Values that bfloat16 holds, so that the source dtype does not matter.
  for (float& value : values) value = to_float(from_float<bfloat16>(normal(random)));
  return values;
}

float code_value(float quotient) {
  return to_float(from_float<float8_e4m3>(std::clamp(quotient, -448.0F, 448.0F)));
}

TEST(Fp8Gemm, GivesTheDocumentedArithmetic) {
  GemmRig rig;
  const auto weight = random_floats(kRows * kCols, 1);
  const auto x = random_floats(3 * kCols, 2);
  const auto bias = random_floats(kRows, 3);
  for (const Fp8WeightScale granularity : {Fp8WeightScale::kTensor, Fp8WeightScale::kChannel}) {
    const QuantMatrix w = rig.matrix();
    quantize_fp8_weight(*rig.backend, view_of(weight.data(), Shape{kRows, kCols}), granularity, w.view());
    std::vector<float> y(3 * kRows);
    fp8_gemm(*rig.backend, view_of(x.data(), Shape{3, kCols}), w.view(), view_of(bias.data(), Shape{kRows}),
             view_of(y.data(), Shape{3, kRows}));
    const auto amax = [](const float* values, int64_t count) {
      float found = 0;
      for (int64_t i = 0; i < count; ++i) found = std::max(found, std::abs(values[i]));
      return found;
    };
    for (int64_t t = 0; t < 3; ++t) {
      const float x_scale =
          std::max(amax(&x[static_cast<size_t>(t * kCols)], kCols) / 448, 1 / (448.0F * 512));
      for (int64_t n = 0; n < kRows; ++n) {
        const bool whole = granularity == Fp8WeightScale::kTensor;
        const float w_scale = amax(whole ? weight.data() : &weight[static_cast<size_t>(n * kCols)],
                                   whole ? kRows * kCols : kCols) /
                              448;
        double sum = 0;
        for (int64_t k = 0; k < kCols; ++k) {
          const float value = weight[static_cast<size_t>(n * kCols + k)];
          const float code = code_value(whole ? value * (1 / w_scale) : value / w_scale);
          sum += static_cast<double>(code) *
                 static_cast<double>(code_value(x[static_cast<size_t>(t * kCols + k)] / x_scale));
        }
        const double expected = static_cast<double>(x_scale) * static_cast<double>(w_scale) * sum +
                                static_cast<double>(bias[static_cast<size_t>(n)]);
        EXPECT_NEAR(static_cast<double>(y[static_cast<size_t>(t * kRows + n)]), expected, 1e-4);
      }
    }
  }
}

TEST(Fp8Gemm, PutsANanIntoItsOwnRowOnly) {
  GemmRig rig;
  const auto weight = random_floats(kRows * kCols, 1);
  auto x = random_floats(2 * kCols, 2);
  const QuantMatrix w = rig.matrix();
  quantize_fp8_weight(*rig.backend, view_of(weight.data(), Shape{kRows, kCols}), Fp8WeightScale::kTensor,
                      w.view());
  std::vector<float> clean(2 * kRows);
  std::vector<float> y(2 * kRows);
  fp8_gemm(*rig.backend, view_of(x.data(), Shape{2, kCols}), w.view(), {},
           view_of(clean.data(), Shape{2, kRows}));
  x[5] = std::nanf("");
  fp8_gemm(*rig.backend, view_of(x.data(), Shape{2, kCols}), w.view(), {},
           view_of(y.data(), Shape{2, kRows}));
  for (size_t n = 0; n < kRows; ++n) {
    EXPECT_TRUE(std::isnan(y[n]));
    EXPECT_EQ(y[kRows + n], clean[kRows + n]);
  }
}

TEST(Fp8Gemm, GivesTheSameBitsHoweverManyRowsThereAre) {
  GemmRig rig;
  constexpr int64_t kWide = 8192;
  constexpr int64_t kMany = 1000;  // more than the workspace takes at a time
  const auto weight = random_floats(64 * kWide, 1);
  const auto x = random_floats(kMany * kWide, 2);
  const QuantMatrix w = rig.matrix(64, kWide);
  quantize_fp8_weight(*rig.backend, view_of(weight.data(), Shape{64, kWide}), Fp8WeightScale::kChannel,
                      w.view());
  std::vector<float> all(kMany * 64);
  fp8_gemm(*rig.backend, view_of(x.data(), Shape{kMany, kWide}), w.view(), {},
           view_of(all.data(), Shape{kMany, 64}));
  for (const int64_t t : {int64_t{0}, int64_t{777}, kMany - 1}) {
    std::vector<float> one(64);
    fp8_gemm(*rig.backend, view_of(&x[static_cast<size_t>(t * kWide)], Shape{1, kWide}), w.view(), {},
             view_of(one.data(), Shape{1, 64}));
    EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + t * 64)) << t;
  }
}

TEST(QuantizeFp8Weight, RefusesValuesThatAreNotFiniteAndWritesNothing) {
  GemmRig rig;
  auto weight = random_floats(kRows * kCols, 1);
  weight[7] = std::nanf("");
  weight[2000] = INFINITY;
  const QuantMatrix w = rig.matrix();
  try {
    quantize_fp8_weight(*rig.backend, view_of(weight.data(), Shape{kRows, kCols}), Fp8WeightScale::kTensor,
                        w.view());
    FAIL() << "no exception";
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find("2 values that are NaN or infinite"), std::string::npos);
  }
  EXPECT_EQ(w.view().scales[0], 0.0F);
}

}  // namespace
}  // namespace octet
