// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "octet/backend/reference/reference_backend.h"
#include "octet/base/error.h"
#include "octet/core/memory_ledger.h"
#include "tests/support/refusal.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

struct CacheTest : ::testing::Test {
  MemoryLedger ledger;
  ReferenceBackend backend{ledger};
  KvCacheSpec spec{.layers = 2, .heads = 3, .head_dim = 8, .dtype = DType::kF8E4M3, .block_size = 4};

  std::string refusal(int64_t num_blocks) {
    return test::refusal<ArgumentError>([&] { const KvCache cache(backend, spec, num_blocks); });
  }
};

TEST_F(CacheTest, TakesValuesAndScalesOfEveryLayerInTheLedger) {
  const KvCache cache(backend, spec, 5);
  EXPECT_EQ(cache.bytes(), 5 * 4 * 2 * 2 * (3 * 8 + 3 * 4));
  EXPECT_EQ(ledger.current(), cache.bytes());
  ASSERT_EQ(cache.layers().size(), 2u);
  const KvView& view = cache.layers()[1];
  EXPECT_EQ(view.values - view.keys, 5 * 4 * 3 * 8);
  EXPECT_EQ(view.value_scales - view.key_scales, 5 * 4 * 3);
}

TEST_F(CacheTest, RefusesMoreBlocksThanABlockTableCounts) {
  EXPECT_THAT(refusal(int64_t{INT32_MAX} + 1), HasSubstr("as many blocks as an int32 counts"));
  EXPECT_THAT(refusal(0), HasSubstr("as many blocks as an int32 counts"));
}

TEST_F(CacheTest, RefusesBytesThatNoIntegerHolds) {
  spec.head_dim = int64_t{1} << 40;
  EXPECT_THAT(refusal(INT32_MAX), HasSubstr("the bytes of a cache of 2147483647 blocks overflow"));
  EXPECT_EQ(ledger.current(), 0);
}

}  // namespace
}  // namespace octet
