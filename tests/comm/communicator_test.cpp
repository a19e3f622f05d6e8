// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <new>

#include "octet/base/error.h"
#include "octet/comm/factory.h"
#include "octet/comm/planning.h"
#include "octet/comm/single.h"
#include "tests/comm/communicator_checks.h"
#include "tests/comm/thread_world.h"

namespace octet {
namespace {

TEST(Communicator, OneRankAloneHasAllItAsksFor) {
  SingleCommunicator single;
  test::check_communicator(single);
}

TEST(Communicator, RanksReduceGatherAndBroadcastInTheOrderOfTheRanks) {
  for (const int size : {1, 2, 3, 5}) {
    test::run_ranks(size, [](Communicator& c) { test::check_communicator(c); });
  }
}

TEST(Communicator, ARankThatFailsEndsTheOthersWait) {
  EXPECT_THROW(test::run_ranks(3,
                               [](Communicator& c) {
                                 if (c.rank() == 1) throw FormatError("broken");
                                 c.barrier();
                                 c.barrier();
                               }),
               FormatError);
}

TEST(Communicator, APlannedRankKnowsItsPlaceAndRefusesToMeetOthers) {
  PlanningCommunicator planned(1, 3);
  EXPECT_EQ(planned.rank(), 1);
  EXPECT_EQ(planned.world_size(), 3);
  EXPECT_THROW(planned.barrier(), ArgumentError);
  EXPECT_THROW((void)planned.all_reduce_min(1), ArgumentError);
  std::array<float, 2> values{};
  EXPECT_THROW(planned.all_reduce_sum(values), ArgumentError);
  EXPECT_THROW(planned.broadcast_values(std::span(values)), ArgumentError);
}

TEST(Communicator, OneRankNeedsNoTransport) {
  const auto communicator = make_communicator({.world_size = 1});
  EXPECT_EQ(communicator->rank(), 0);
  EXPECT_EQ(communicator->world_size(), 1);
}

TEST(Communicator, ABuildWithoutMpiRefusesMoreRanksAndSaysWhy) {
  if (has_mpi()) GTEST_SKIP() << "this build has MPI";
  try {
    (void)make_communicator({.world_size = 2});
    FAIL() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("--tensor-parallel-size 2: this build has no MPI"));
  }
}

/// What arrives of an error that rank 2 met.
template <class E>
std::string after_the_journey(const E& error) {
  try {
    RankFailure::of(std::make_exception_ptr(error)).raise(2);
  } catch (const E& arrived) {
    return arrived.what();
  }
}

TEST(RankFailure, KeepsTheKindOfAnErrorAndNamesTheRank) {
  EXPECT_EQ(after_the_journey(FormatError("a")), "rank 2: a");
  EXPECT_EQ(after_the_journey(ConfigError("b")), "rank 2: b");
  EXPECT_EQ(after_the_journey(ArgumentError("c")), "rank 2: c");
  EXPECT_EQ(after_the_journey(DeviceError("d")), "rank 2: d");
  EXPECT_EQ(after_the_journey(Interrupted("e")), "rank 2: e");
}

TEST(RankFailure, MakesADeviceErrorOfWhatIsNotOctets) {
  for (const auto& error :
       {std::make_exception_ptr(std::bad_alloc()), std::make_exception_ptr(std::runtime_error("odd"))}) {
    EXPECT_THROW(RankFailure::of(error).raise(1), DeviceError);
  }
}

}  // namespace
}  // namespace octet
