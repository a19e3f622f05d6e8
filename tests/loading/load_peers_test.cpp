// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/load_peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

#include "tests/loading/load_rig.h"
#include "tests/loading/thread_peers.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(FailTogether, WithoutPeersTheErrorIsTheBodysOwn) {
  EXPECT_EQ(refusal<FormatError>([] { fail_together(nullptr, [] { throw FormatError("bad file"); }); }),
            "bad file");
}

TEST(FailTogether, EveryRankThrowsTheErrorOfTheLowestRankThatFailed) {
  ThreadPeers peers(3);
  std::vector<std::string> messages(3);
  peers.run([&](int rank, LoadPeers& mine) {
    messages[static_cast<size_t>(rank)] = refusal<FormatError>([&] {
      fail_together(&mine, [&] {
        if (rank == 1) throw FormatError("w.safetensors: caf\xc3\xa9");
        if (rank == 2) throw DeviceError("no memory");
      });
    });
  });
  for (const std::string& message : messages) EXPECT_EQ(message, "rank 1: w.safetensors: caf\xc3\xa9");
}

template <class E>
void expect_kind(const std::function<void()>& fail, const std::string& message) {
  ThreadPeers peers(2);
  peers.run([&](int rank, LoadPeers& mine) {
    EXPECT_EQ(refusal<E>([&] {
                fail_together(&mine, [&] {
                  if (rank == 1) fail();
                });
              }),
              message);
  });
}

TEST(FailTogether, TheTypeOfTheErrorTravelsWithIt) {
  expect_kind<ConfigError>([] { throw ConfigError("c"); }, "rank 1: c");
  expect_kind<ArgumentError>([] { throw ArgumentError("a"); }, "rank 1: a");
  expect_kind<DeviceError>([] { throw DeviceError("d"); }, "rank 1: d");
  expect_kind<DeviceError>([] { throw std::bad_alloc(); }, "rank 1: out of memory");
  expect_kind<Interrupted>([] { throw Interrupted("i"); }, "rank 1: i");
  expect_kind<Error>([] { throw std::runtime_error(""); }, "rank 1: ");
}

TEST(FailTogether, NobodyThrowsWhereNobodyFails) {
  ThreadPeers peers(4);
  peers.run([](int /*rank*/, LoadPeers& mine) { fail_together(&mine, [] {}); });
}

/// A load of one matrix cut by rows over two ranks, with something wrong on the second.
class TwoRanks : public testing::Test {
 protected:
  std::string message_of_both(const StorageRule& rule, const WeightSource& second) {
    ThreadPeers peers(2);
    std::vector<std::string> messages(2);
    peers.run([&](int rank, LoadPeers& mine) {
      Device device;
      TestModel model;
      model.matrix({{"w.weight", 20}}, 10, rule);
      model.cut_rows(0, {.begin = rank * 20, .end = rank * 20 + 20}, Shape{40, 10});
      const WeightSource& from = rank == 1 ? second : source_;
      messages[static_cast<size_t>(rank)] =
          refusal<FormatError>([&] { device.load(model, from, {.tile_bytes = 40, .peers = &mine}); });
      EXPECT_EQ(device.ledger.current(), 0);
    });
    EXPECT_EQ(messages[0], messages[1]);
    return messages[0];
  }
  void SetUp() override { source_.add("w.weight", DType::kBF16, {40, 10}); }
  MemorySource source_;
};

TEST_F(TwoRanks, ValuesThatAreNotFiniteOnOneRankEndTheLoadOnBothAndNameTheTensorsOwnRow) {
  for (const StorageRule& rule : all_rules()) {
    MemorySource broken;
    std::vector<float> values(400, 1.0F);
    values[253] = std::numeric_limits<float>::infinity();
    broken.add("w.weight", DType::kBF16, {40, 10}, values);
    EXPECT_THAT(message_of_both(rule, broken),
                AllOf(StartsWith("rank 1: "), HasSubstr("the first in row 25")));
  }
}

TEST_F(TwoRanks, ATensorThatOneRankDoesNotFindEndsTheLoadOnBoth) {
  MemorySource empty;
  empty.add("other", DType::kBF16, {1});
  EXPECT_THAT(message_of_both(rule_of(Granularity::kChannel), empty), HasSubstr("missing tensor 'w.weight'"));
}

}  // namespace
}  // namespace octet
