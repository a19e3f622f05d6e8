// SPDX-License-Identifier: Apache-2.0
#include "octet/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "octet/base/cpu_features.h"
#include "octet/base/error.h"

namespace octet {
namespace {

/// As OpenMP's runtimes do it, but with threads started anew for each loop.
void run_on_new_threads(void (*call)(void*), void* data, unsigned threads, unsigned flags) {
  EXPECT_EQ(flags, 0U);
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(call, data);
  call(data);
  for (std::thread& other : others) other.join();
}

/// As they do it inside another loop of theirs.
void run_alone(void (*call)(void*), void* data, unsigned /*threads*/, unsigned /*flags*/) {
  call(data);
}

class ThreadPoolOf : public ::testing::TestWithParam<Threads> {};

TEST_P(ThreadPoolOf, CallsTheBodyOnceForEveryIndex) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam().count);
  for (const int64_t count : {0, 1, 2, 7, 64, 1000, 4099}) {
    std::vector<int> calls(static_cast<size_t>(count), 0);
    std::atomic<bool> named{true};
    pool.parallel_for(count, [&](int64_t index, int worker) {
      ++calls[static_cast<size_t>(index)];
      if (worker < 0 || worker >= pool.threads()) named = false;
    });
    EXPECT_EQ(std::count(calls.begin(), calls.end(), 1), count);
    EXPECT_TRUE(named);
  }
}

TEST_P(ThreadPoolOf, RunsThousandsOfShortLoopsInARow) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> sums(17, 0);
  const int64_t loops = GetParam().borrowed == nullptr ? 5000 : 200;
  for (int64_t loop = 0; loop < loops; ++loop) {
    pool.parallel_for(17, [&](int64_t index, int) { sums[static_cast<size_t>(index)] += index; });
  }
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(sums[i], loops * static_cast<int64_t>(i));
}

TEST_P(ThreadPoolOf, RethrowsAndGoesOnWorking) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> running{0};
    const auto loop = [&] {
      pool.parallel_for(100, [&](int64_t index, int) {
        ++running;
        if (index % 10 == 3) {
          --running;
          throw FormatError("index " + std::to_string(index));
        }
        --running;
      });
    };
    EXPECT_THAT(loop, ::testing::ThrowsMessage<FormatError>(::testing::HasSubstr("index ")));
    EXPECT_EQ(running, 0);
    std::atomic<int64_t> sum{0};
    pool.parallel_for(10, [&](int64_t index, int) { sum += index; });
    EXPECT_EQ(sum, 45);
  }
}

TEST_P(ThreadPoolOf, WakesWorkersThatFellAsleep) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int64_t> sum{0};
    pool.parallel_for(64, [&](int64_t index, int) { sum += index; });
    EXPECT_EQ(sum, 2016);
  }
}

std::string name_of(const ::testing::TestParamInfo<Threads>& info) {
  const bool alone = info.param.borrowed == run_alone;
  return std::to_string(info.param.count) + (alone ? "Alone" : info.param.borrowed ? "Borrowed" : "Own");
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolOf, ::testing::Values(1, 2, 3, 16), name_of);
INSTANTIATE_TEST_SUITE_P(Borrowed, ThreadPoolOf,
                         ::testing::Values(Threads(1, run_on_new_threads), Threads(2, run_on_new_threads),
                                           Threads(5, run_on_new_threads), Threads(4, run_alone)),
                         name_of);

class ThreadPoolOfTwo : public ::testing::TestWithParam<Threads> {};

INSTANTIATE_TEST_SUITE_P(Kinds, ThreadPoolOfTwo, ::testing::Values(2, Threads(2, run_on_new_threads)),
                         name_of);

TEST_P(ThreadPoolOfTwo, UsesItsWorkers) {
  ThreadPool pool(GetParam());
  std::atomic<int> arrived{0};  // each body waits until the other thread has come too
  pool.parallel_for(2, [&](int64_t, int) {
    ++arrived;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadPool, HandsOutIndicesInAscendingOrder) {
  ThreadPool pool(1);
  std::vector<int64_t> order;
  pool.parallel_for(100, [&](int64_t index, int) { order.push_back(index); });
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(ThreadPool, RefusesALoopInsideALoop) {
  ThreadPool pool(2);
  const auto nested = [&] {
    pool.parallel_for(4, [&](int64_t, int) { pool.parallel_for(4, [](int64_t, int) {}); });
  };
  EXPECT_THAT(nested, ::testing::ThrowsMessage<ArgumentError>(::testing::HasSubstr("inside another")));
}

TEST(ThreadPool, RefusesSizesOutOfRange) {
  EXPECT_THROW(ThreadPool(0), ArgumentError);
  EXPECT_THROW(ThreadPool(-1), ArgumentError);
  EXPECT_THROW(ThreadPool(1025), ArgumentError);
}

TEST(ThreadPool, WithFarMoreThreadsThanCoresStaysQuick) {
  ThreadPool pool(4 * usable_cores() + 16);
  const auto begin = std::chrono::steady_clock::now();
  for (int loop = 0; loop < 2000; ++loop) {
    pool.parallel_for(32, [](int64_t, int) { cpu_relax(); });
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin,
            std::chrono::seconds(10));  // 5 ms a loop: a time slice is 3 to 4
}

size_t running_threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

TEST(ThreadPool, OfOneOrOfBorrowedThreadsStartsNone) {
  const size_t before = running_threads();
  ThreadPool pool(1);
  pool.parallel_for(5, [&](int64_t, int worker) { EXPECT_EQ(worker, 0); });
  EXPECT_EQ(running_threads(), before);
  const ThreadPool borrowed({3, run_on_new_threads});
  EXPECT_EQ(running_threads(), before);
  const ThreadPool three(3);
  EXPECT_EQ(running_threads(), before + 2);
}

TEST(ThreadPool, SleepsWhenItHasNothingToDo) {
  ThreadPool pool(4);
  pool.parallel_for(100, [](int64_t, int) { cpu_relax(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // they spin for much less
  const std::clock_t before = std::clock();                    // processor time of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 50);
}

TEST(ThreadPool, TakesMoveOnlyAndConstBodies) {
  ThreadPool pool(2);
  auto owned = std::make_unique<std::atomic<int>>(0);
  auto* counter = owned.get();
  const auto body = [held = std::move(owned)](int64_t, int) { ++*held; };
  pool.parallel_for(5, body);
  EXPECT_EQ(*counter, 5);
}

}  // namespace
}  // namespace octet
