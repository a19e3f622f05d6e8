// SPDX-License-Identifier: Apache-2.0
/// Multiplies of every shape and kind stay within the error of a float32 sum.
#include "tests/conformance/conformance.h"
#include "tests/conformance/multiplication.h"
#include "tests/conformance/pairwise.h"

namespace octet::conformance {
namespace {

constexpr std::array<int64_t, 9> kTokens = {0, 1, 2, 3, 5, 8, 17, 64, 130};
constexpr std::array<int64_t, 7> kOutputs = {1, 17, 63, 64, 65, 128, 200};
constexpr std::array<int64_t, 9> kInputs = {1, 3, 4, 96, 127, 128, 129, 256, 1000};
constexpr std::array kLefts = {Left::kFloat32, Left::kBFloat16, Left::kTokenE4M3, Left::kTokenE5M2,
                               Left::kGroupE4M3};
constexpr std::array<std::optional<DType>, 4> kBiases = {std::nullopt, DType::kF32, DType::kBF16,
                                                         DType::kF16};
constexpr std::array<int64_t, 2> kGaps = {0, 3};

std::vector<MultiplyCase> multiply_cases() {
  std::vector<MultiplyCase> cases;
  for (const auto& v : pairwise_cases({kTokens.size(), kOutputs.size(), kInputs.size(), kWeightKinds.size(),
                                       kLefts.size(), kBiases.size(), kLayouts.size(), kGaps.size()})) {
    cases.push_back({.shape = {.m = kTokens[v[0]], .n = kOutputs[v[1]], .k = kInputs[v[2]]},
                     .weight = kWeightKinds[v[3]],
                     .left = kLefts[v[4]],
                     .bias = kBiases[v[5]],
                     .layout = kLayouts[v[6]],
                     .gap = kGaps[v[7]]});
  }
  return cases;
}

class GemmConformance : public Conformance {};

TEST_P(GemmConformance, StaysWithinTheErrorOfAFloat32Sum) {
  uint64_t seed = 1;
  for (const MultiplyCase& what : multiply_cases()) {
    SCOPED_TRACE(what.to_string());
    const Multiplication multiplication(memory(), reference(), what, seed++);
    expect_within(multiplication.run(reference()), multiplication.run(candidate()),
                  multiplication.bound(reference()));
    if (HasFailure()) return;
  }
}

TEST_P(GemmConformance, RoundsTheDenseOperandToBfloat16Once) {
  // 1 + 2^-8 is a tie that rounds to even, 1 + 3 * 2^-8 one that rounds up: both far beyond the error of the
  // sum.
  for (const MatrixLayout layout : kLayouts) {
    const MultiplyCase what{.shape = {.m = 2, .n = 65, .k = 2},
                            .weight = {DType::kF32, Scales::kNone},
                            .left = Left::kBFloat16,
                            .bias = std::nullopt,
                            .layout = layout,
                            .gap = 0};
    Multiplication multiplication(memory(), reference(), what, 1);
    multiplication.x().set(0, 0, 1.0F + 0x1p-8F);
    multiplication.x().set(0, 1, 0.0F);
    multiplication.x().set(1, 0, 0.0F);
    multiplication.x().set(1, 1, 1.0F + 0x3p-8F);
    const QuantMatrixView w = multiplication.w().view();
    for (int64_t n = 0; n < w.rows; ++n) {
      save_element(1.0F, w.element(n, 0), w.dtype);
      save_element(1.0F, w.element(n, 1), w.dtype);
    }
    const Strided y = multiplication.run(candidate());
    for (int64_t n = 0; n < w.rows; ++n) {
      EXPECT_EQ(y.get(0, n), 1.0F);
      EXPECT_EQ(y.get(1, n), 1.0F + 0x1p-6F);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GemmConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
