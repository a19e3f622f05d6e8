// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/panel_shares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

namespace octet {
namespace {

std::vector<int64_t> all_for(PanelShares& shares, int64_t own) {
  std::vector<int64_t> taken;
  for (int64_t p = shares.take(own); p >= 0; p = shares.take(own)) taken.push_back(p);
  return taken;
}

TEST(PanelShares, GiveAThreadItsOwnInOrderAndThenTheEndOfTheFullest) {
  PanelShares shares(3);
  shares.deal(9);
  EXPECT_EQ(shares.take(2), 6);
  EXPECT_EQ(all_for(shares, 1), (std::vector<int64_t>{3, 4, 5, 2, 1, 8, 0, 7}));
  EXPECT_EQ(shares.take(0), -1);
}

TEST(PanelShares, GiveEveryPanelOnceHoweverManyThreadsThereAre) {
  for (const int threads : {1, 2, 5}) {
    PanelShares shares(threads);
    for (const int64_t panels : {0, 1, 3, 1000}) {
      shares.deal(panels);
      std::vector<std::vector<int64_t>> taken(static_cast<size_t>(threads));
      std::vector<std::thread> running;
      for (int64_t i = 0; i < threads; ++i)
        running.emplace_back([&, i] { taken[static_cast<size_t>(i)] = all_for(shares, i); });
      for (std::thread& thread : running) thread.join();
      std::vector<int64_t> all;
      for (const auto& some : taken) all.insert(all.end(), some.begin(), some.end());
      std::ranges::sort(all);
      ASSERT_EQ(std::ssize(all), panels);
      for (int64_t p = 0; p < panels; ++p) EXPECT_EQ(all[static_cast<size_t>(p)], p);
    }
  }
}

}  // namespace
}  // namespace octet
