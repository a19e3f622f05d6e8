// SPDX-License-Identifier: Apache-2.0
#include "octet/base/cpu_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(CpuIsa, NamesGoBothWays) {
  for (const CpuIsa isa :
       {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmxBf16}) {
    EXPECT_EQ(parse_cpu_isa(to_string(isa)), isa);
  }
}

TEST(CpuIsa, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  EXPECT_THAT([] { (void)parse_cpu_isa("sse9"); },
              ::testing::ThrowsMessage<ConfigError>(
                  ::testing::AllOf(::testing::HasSubstr("'sse9'"),
                                   ::testing::HasSubstr("portable, avx2, avx512, avx512_bf16, amx_bf16"))));
}

TEST(SupportedIsas, BeginWithPortableAndAscend) {
  const auto isas = supported_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), CpuIsa::kPortable);
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
}

#if defined(__x86_64__)
TEST(SupportedIsas, AgreeWithTheCompilersOwnLookAtTheProcessor) {
  const auto isas = supported_isas();
  const auto has = [&](CpuIsa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  EXPECT_EQ(has(CpuIsa::kAvx2), avx2);
  EXPECT_EQ(has(CpuIsa::kAvx512), __builtin_cpu_supports("avx512bw") != 0 &&
                                      __builtin_cpu_supports("avx512dq") != 0 &&
                                      __builtin_cpu_supports("avx512vl") != 0);
  EXPECT_EQ(has(CpuIsa::kAvx512Bf16),
            __builtin_cpu_supports("avx512bf16") != 0 && __builtin_cpu_supports("avx512vbmi") != 0);
}

TEST(SupportedIsas, HaveTilesOnlyWhereTheKernelSaysThatTheProcessorHasThem) {
  std::ifstream file("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto isas = supported_isas();
  const bool has = std::find(isas.begin(), isas.end(), CpuIsa::kAmxBf16) != isas.end();
  EXPECT_EQ(has,
            text.find(" amx_bf16") != std::string::npos && text.find(" avx512_bf16") != std::string::npos);
}

TEST(SlowSubnormals, AreThoseOfIntelsProcessors) {
  EXPECT_EQ(slow_subnormals(), __builtin_cpu_is("intel") != 0);
}

TEST(ReadsFasterInStreams, IsForIntelsProcessors) {
  EXPECT_EQ(reads_faster_in_streams(), __builtin_cpu_is("intel") != 0);
}
#endif

TEST(CpuName, IsNotEmptyAndHasNoBlanksAround) {
  const std::string name = cpu_name();
  ASSERT_FALSE(name.empty());
  EXPECT_NE(name.front(), ' ');
  EXPECT_NE(name.back(), ' ');
}

TEST(UsableCores, FollowTheAffinityMask) {
  EXPECT_GE(usable_cores(), 1);
  int narrowed = 0;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(::sched_getcpu()), &one);
    if (::sched_setaffinity(0, sizeof(one), &one) == 0) narrowed = usable_cores();
  }).join();
  EXPECT_EQ(narrowed, 1);
}

TEST(AvailableMemory, IsPositiveAndLessThanAPetabyte) {
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_LT(available_memory_bytes(), 1LL << 50);
}

}  // namespace
}  // namespace octet
