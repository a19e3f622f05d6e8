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
  testing::expect_exact_codes_of_every_bfloat16(kernels().quantize);
}
TEST_P(CpuOpsKernels, QuantizeRandomRowsExactlyAndCountWhatWasLost) {
  testing::expect_exact_codes_of_random_rows(kernels().quantize);
}
TEST_P(CpuOpsKernels, RoundAndWidenExactly) {
  testing::expect_exact_conversions(kernels().quantize);
}
TEST_P(CpuOpsKernels, MoveRowsToLanesAndBack) {
  testing::expect_lanes_as_declared(kernels().quantize);
}
TEST_P(CpuOpsKernels, PassOverNanInTheLargestMagnitude) {
  testing::expect_abs_max_past_nan(kernels().quantize);
}
TEST_P(CpuOpsKernels, ComputeSiluAccuratelyOverTheWholeRange) {
  testing::expect_accurate_silu(kernels().elementwise);
}
TEST_P(CpuOpsKernels, GiveAnElementTheSameBitsInAnyPlace) {
  testing::expect_bits_independent_of_place(kernels().elementwise);
}
TEST_P(CpuOpsKernels, AttendAccuratelyInEveryCacheDtype) {
  testing::expect_accurate_attention(kernels().attention);
}
TEST_P(CpuOpsKernels, AttendAccuratelyWithoutSubnormals) {
  testing::expect_accurate_attention(kernels().without_subnormals.attention);
}
TEST_P(CpuOpsKernels, GiveAQueryTheSameBitsInAnyTile) {
  for (const AttentionKernels& each : {kernels().attention, kernels().without_subnormals.attention}) {
    testing::expect_attention_independent_of_tile(each, {72, 80, 128});
    testing::expect_scaled_attention_independent_of_tile(each);
  }
}
TEST_P(CpuOpsKernels, ReadNothingBeforeTheCache) {
  testing::expect_attention_inside_of_cache(kernels().attention);
}
TEST_P(CpuOpsKernels, AttendToLatentVectors) {
  testing::expect_attention_of_latent_vectors(kernels().attention);
}
TEST_P(CpuOpsKernels, KeepInfinityToTheQueriesThatSeeIt) {
  testing::expect_attention_of_infinite_elements(kernels().attention);
}

INSTANTIATE_TEST_SUITE_P(Isas, CpuOpsKernels, ::testing::ValuesIn(supported_isas()),
                         [](const auto& param) { return std::string(to_string(param.param)); });

}  // namespace
}  // namespace octet
