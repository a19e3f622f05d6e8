// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/factory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

auto make(BackendOptions options) {
  return [options] {
    MemoryLedger ledger;
    static_cast<void>(make_backend(options, ledger));
  };
}

TEST(Factory, MakesTheCpuBackendByNameAndByDefault) {
  MemoryLedger ledger;
  EXPECT_THAT(make_backend({.device = "cpu", .threads = 2}, ledger)->describe(),
              AllOf(HasSubstr("cpu"), HasSubstr("2 threads")));
  EXPECT_THAT(make_backend({}, ledger)->describe(), HasSubstr("cpu"));
}

TEST(Factory, MakesTheReferenceByName) {
  MemoryLedger ledger;
  const auto backend = make_backend({.device = "reference", .threads = 3}, ledger);
  EXPECT_EQ(backend->describe(), "reference");
  EXPECT_EQ(backend->threads().threads(), 3);
  EXPECT_EQ(backend->weight_layout(), MatrixLayout::kRowMajor);
  EXPECT_EQ(&backend->ledger(), &ledger);
}

TEST(Factory, TakesOneThreadForEachCoreUnlessToldOtherwise) {
  MemoryLedger ledger;
  EXPECT_EQ(make_backend({.threads = 0}, ledger)->threads().threads(), std::min(usable_cores(), 1024));
  EXPECT_EQ(make_backend({.threads = 3}, ledger)->threads().threads(), 3);
}

TEST(Factory, LetsTheLoopsRunOnBorrowedThreads) {
  MemoryLedger ledger;
  const auto borrowed = [](void (*call)(void*), void* data, unsigned threads, unsigned) {
    EXPECT_EQ(threads, 3U);
    std::thread other(call, data);
    other.join();
  };
  for (const char* device : {"cpu", "reference"}) {
    const auto backend = make_backend({.device = device, .threads = 3, .borrowed_threads = borrowed}, ledger);
    const auto here = std::this_thread::get_id();
    backend->threads().parallel_for(9, [&](int64_t, int) { EXPECT_NE(std::this_thread::get_id(), here); });
  }
}

TEST(Factory, MakesEveryInstructionSetThatTheMachineHas) {
  MemoryLedger ledger;
  for (const CpuIsa isa : supported_isas()) {
    EXPECT_THAT(make_backend({.device = "cpu", .threads = 1, .isa = isa}, ledger)->describe(),
                HasSubstr(std::string(to_string(isa))));
  }
}

TEST(Factory, RefusesAnInstructionSetThatTheMachineLacksAndNamesThoseItHas) {
  const std::vector<CpuIsa> has = supported_isas();
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmxBf16}) {
    if (std::ranges::find(has, isa) != has.end()) continue;
    EXPECT_THAT(make({.device = "cpu", .threads = 1, .isa = isa}),
                ThrowsMessage<ConfigError>(
                    AllOf(HasSubstr("lacks " + std::string(to_string(isa))), HasSubstr("it has portable"))));
    return;
  }
  GTEST_SKIP() << "this machine has every instruction set";
}

TEST(Factory, RefusesAnInstructionSetForTheReference) {
  EXPECT_THAT(make({.device = "reference", .threads = 1, .isa = CpuIsa::kPortable}),
              ThrowsMessage<ConfigError>(HasSubstr("for the device \"cpu\" only")));
}

TEST(Factory, SaysThatThisBuildHasNoCuda) {
  for (const char* device : {"cuda", "cuda:0", "cuda:7"}) {
    EXPECT_THAT(make({.device = device}),
                ThrowsMessage<ConfigError>(AllOf(HasSubstr(device), HasSubstr("has no CUDA"))));
  }
}

TEST(Factory, RefusesAnUnknownDeviceAndListsTheKnownOnes) {
  for (const char* device : {"", "CPU", "tpu", "cpu:0", "cudax"}) {
    EXPECT_THAT(make({.device = device}),
                ThrowsMessage<ConfigError>(AllOf(HasSubstr("unknown device \"" + std::string(device) + "\""),
                                                 HasSubstr("auto, cpu, reference"))));
  }
}

TEST(Factory, RefusesThreadCountsOutsideOfTheirRange) {
  for (const char* device : {"cpu", "reference"}) {
    for (const int threads : {-1, 1025}) {
      EXPECT_THAT(make({.device = device, .threads = threads}),
                  ThrowsMessage<ConfigError>(
                      AllOf(HasSubstr("1 to 1024"), HasSubstr("found " + std::to_string(threads)))));
    }
  }
}

}  // namespace
}  // namespace octet
