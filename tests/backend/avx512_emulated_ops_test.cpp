// SPDX-License-Identifier: Apache-2.0
#include "tests/backend/avx512_emulated_ops.h"

#include <gtest/gtest.h>

#include "tests/backend/ops_kernel_checks.h"

namespace octet {
namespace {

TEST(Avx512EmulatedOps, QuantizeEveryBfloat16ExactlyUnderEveryRule) {
  test::expect_exact_codes_of_every_bfloat16(emulated_quantize_kernels());
}
TEST(Avx512EmulatedOps, QuantizeRandomRowsExactlyAndCountWhatWasLost) {
  test::expect_exact_codes_of_random_rows(emulated_quantize_kernels());
}
TEST(Avx512EmulatedOps, RoundAndWidenExactly) {
  test::expect_exact_conversions(emulated_quantize_kernels());
}
TEST(Avx512EmulatedOps, MoveRowsToLanesAndBack) {
  test::expect_lanes_as_declared(emulated_quantize_kernels());
}
TEST(Avx512EmulatedOps, PassOverNanInTheLargestMagnitude) {
  test::expect_abs_max_past_nan(emulated_quantize_kernels());
}
TEST(Avx512EmulatedOps, ComputeSiluAccuratelyOverTheWholeRange) {
  test::expect_accurate_silu(emulated_elementwise_kernels());
}
TEST(Avx512EmulatedOps, GiveAnElementTheSameBitsInAnyPlace) {
  test::expect_bits_independent_of_place(emulated_elementwise_kernels());
}
TEST(Avx512EmulatedOps, AttendAccuratelyInEveryCacheDtype) {
  test::expect_accurate_attention(emulated_attention_kernels());
}
TEST(Avx512EmulatedOps, AttendAccuratelyWithoutSubnormals) {
  test::expect_accurate_attention(emulated_normal_attention_kernels());
}
TEST(Avx512EmulatedOps, AttendAccuratelyByTables) {
  test::expect_accurate_attention(emulated_table_attention_kernels());
}
TEST(Avx512EmulatedOps, AttendAccuratelyByTiles) {
  test::expect_accurate_attention(emulated_amx_attention_kernels());
}
TEST(Avx512EmulatedOps, GiveAQueryTheSameBitsInAnyTile) {
  test::expect_attention_independent_of_tile(emulated_attention_kernels(), {72, 80, 128});
  test::expect_scaled_attention_independent_of_tile(emulated_attention_kernels());
}
TEST(Avx512EmulatedOps, GiveAQueryTheSameBitsInAnyTileByTables) {
  test::expect_attention_independent_of_tile(emulated_table_attention_kernels(), {80});
}
TEST(Avx512EmulatedOps, GiveAQueryTheSameBitsInAnyTileOfAmx) {
  test::expect_attention_independent_of_tile(emulated_amx_attention_kernels(), {40, 64});
}
TEST(Avx512EmulatedOps, ReadNothingBeforeTheCache) {
  test::expect_attention_inside_of_cache(emulated_attention_kernels());
}
TEST(Avx512EmulatedOps, ReadNothingBeforeTheCacheByTables) {
  test::expect_attention_inside_of_cache(emulated_table_attention_kernels());
}
TEST(Avx512EmulatedOps, ReadNothingBeforeTheCacheByTiles) {
  test::expect_attention_inside_of_cache(emulated_amx_attention_kernels());
}
TEST(Avx512EmulatedOps, AttendToLatentVectors) {
  test::expect_attention_of_latent_vectors(emulated_attention_kernels());
  test::expect_attention_of_latent_vectors(emulated_amx_attention_kernels());
}
TEST(Avx512EmulatedOps, KeepInfinityToTheQueriesThatSeeIt) {
  test::expect_attention_of_infinite_elements(emulated_attention_kernels());
  test::expect_attention_of_infinite_elements(emulated_amx_attention_kernels());
}

}  // namespace
}  // namespace octet
