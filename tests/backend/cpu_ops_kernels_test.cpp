// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "octet/backend/cpu/choose_kernels.h"
#include "tests/backend/ops_kernel_checks.h"

namespace octet {
namespace {

/// Every instruction set that this machine has.
class CpuOpsKernels : public ::testing::TestWithParam<CpuIsa> {
 protected:
  const Kernels& kernels() { return kernels_for(GetParam()); }
};

TEST_P(CpuOpsKernels, QuantizeEveryBfloat16ExactlyUnderEveryRule) {
  test::expect_exact_codes_of_every_bfloat16(kernels().quantize);
}
TEST_P(CpuOpsKernels, QuantizeRandomRowsExactlyAndCountWhatWasLost) {
  test::expect_exact_codes_of_random_rows(kernels().quantize);
}
TEST_P(CpuOpsKernels, RoundAndWidenExactly) {
  test::expect_exact_conversions(kernels().quantize);
}
TEST_P(CpuOpsKernels, MoveRowsToLanesAndBack) {
  test::expect_lanes_as_declared(kernels().quantize);
}
TEST_P(CpuOpsKernels, PassOverNanInTheLargestMagnitude) {
  test::expect_abs_max_past_nan(kernels().quantize);
}
TEST_P(CpuOpsKernels, ComputeSiluAccuratelyOverTheWholeRange) {
  test::expect_accurate_silu(kernels().elementwise);
}
TEST_P(CpuOpsKernels, GiveAnElementTheSameBitsInAnyPlace) {
  test::expect_bits_independent_of_place(kernels().elementwise);
}
TEST_P(CpuOpsKernels, AttendAccuratelyInEveryCacheDtype) {
  test::expect_accurate_attention(kernels().attention);
}
TEST_P(CpuOpsKernels, AttendAccuratelyWithoutSubnormals) {
  test::expect_accurate_attention(kernels().without_subnormals.attention);
}
TEST_P(CpuOpsKernels, GiveAQueryTheSameBitsInAnyTile) {
  for (const AttentionKernels& each : {kernels().attention, kernels().without_subnormals.attention}) {
    test::expect_attention_independent_of_tile(each, {72, 80, 128});
    test::expect_scaled_attention_independent_of_tile(each);
  }
}
TEST_P(CpuOpsKernels, ReadNothingBeforeTheCache) {
  test::expect_attention_inside_of_cache(kernels().attention);
}
TEST_P(CpuOpsKernels, AttendToLatentVectors) {
  test::expect_attention_of_latent_vectors(kernels().attention);
}
TEST_P(CpuOpsKernels, KeepInfinityToTheQueriesThatSeeIt) {
  test::expect_attention_of_infinite_elements(kernels().attention);
}

INSTANTIATE_TEST_SUITE_P(Isas, CpuOpsKernels, ::testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace octet
