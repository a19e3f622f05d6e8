// SPDX-License-Identifier: Apache-2.0
/// Keys and values in the cache, to the bit.
#include "tests/conformance/conformance.h"
#include "tests/conformance/kv_cache.h"
#include "tests/conformance/special_values.h"

namespace octet::conformance {
namespace {

class KvStoreConformance : public Conformance {
 protected:
  void expect_held(const Strided& keys, const Strided& values, const CacheShape& shape,
                   const std::vector<int32_t>& slots) {
    Cache expected(memory(), shape);
    Cache actual(memory(), shape);
    reference().kv_store(keys.view(), values.view(), slots, expected.view());
    candidate().kv_store(keys.view(), values.view(), slots, actual.view());
    expected.expect_equal_to(actual);
  }
};

TEST_P(KvStoreConformance, WritesTheSlotsOfEveryTypeAndNothingElse) {
  Random random(61);
  for (const DType dtype : kCacheTypes) {
    for (const int64_t head_dim : {8, 40, 64, 80, 128, 250, 256}) {
      for (const int64_t block_size : {16, 5}) {
        SCOPED_TRACE(std::string(to_string(dtype)) + ", D " + std::to_string(head_dim) + ", block " +
                     std::to_string(block_size));
        const CacheShape shape{
            .dtype = dtype, .blocks = 2, .heads = 2, .block_size = block_size, .head_dim = head_dim};
        const std::vector<int32_t> slots = {0, static_cast<int32_t>(2 * block_size - 1), 3, 2,
                                            static_cast<int32_t>(block_size)};
        Strided keys(memory(), 5, 2 * head_dim, 6);
        Strided values(memory(), 5, 2 * head_dim, 1);
        keys.randomize(random, 20.0F);
        values.randomize(random, 0.1F);
        expect_held(keys, values, shape, slots);
      }
    }
  }
}

TEST_P(KvStoreConformance, StoresNothingForNoTokens) {
  const Strided none(memory(), 0, 16);
  expect_held(none, none, {.dtype = DType::kF8E4M3, .blocks = 1, .heads = 2, .block_size = 4, .head_dim = 8},
              {});
}

TEST_P(KvStoreConformance, RoundsZerosSubnormalsOverflowAndNan) {
  Random random(62);
  for (const DType dtype : kCacheTypes) {
    SCOPED_TRACE(to_string(dtype));
    const CacheShape shape{.dtype = dtype, .blocks = 2, .heads = 1, .block_size = 16, .head_dim = 40};
    Strided keys(memory(), 6, 40);
    Strided values(memory(), 6, 40);
    sprinkle(keys, 1);
    values.randomize(random);
    for (int64_t d = 0; d < 40; ++d) {
      values.set(0, d, 0.0F);
      values.set(1, d, values.get(1, d) * 0x1p-135F);
      values.set(2, d, values.get(2, d) * 1e-9F);
      values.set(3, d, values.get(3, d) * 1e36F);
      values.set(4, d, d == 17 ? std::numeric_limits<float>::quiet_NaN() : values.get(4, d));
    }
    expect_held(keys, values, shape, {3, 1, 4, 31, 15, 9});
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, KvStoreConformance, testing::ValuesIn(candidates()), candidate_name);

}  // namespace
}  // namespace octet::conformance
