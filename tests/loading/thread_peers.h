// SPDX-License-Identifier: Apache-2.0
/// The ranks of a load as threads of one process.
#pragma once

#include <algorithm>
#include <barrier>
#include <exception>
#include <thread>
#include <vector>

#include "octet/base/error.h"
#include "octet/loading/load_peers.h"

namespace octet {

class ThreadPeers {
 public:
  explicit ThreadPeers(int world_size) : barrier_(world_size), given_(static_cast<size_t>(world_size)) {
    for (int rank = 0; rank < world_size; ++rank) ranks_.emplace_back(*this, rank);
  }

  /// Runs body(rank, peers) on a thread for each rank; rethrows the exception of the lowest rank that threw.
  template <class Body>
  void run(Body&& body) {
    std::vector<std::exception_ptr> errors(ranks_.size());
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(static_cast<int>(rank), static_cast<LoadPeers&>(ranks_[rank]));
        } catch (...) {
          errors[rank] = std::current_exception();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  class Rank final : public LoadPeers {
   public:
    Rank(ThreadPeers& all, int rank) : all_(all), rank_(rank) {}
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int world_size() const override { return static_cast<int>(all_.given_.size()); }
    void reduce_max(std::span<float> values) override {
      all_.given_[static_cast<size_t>(rank_)].assign(values.begin(), values.end());
      all_.barrier_.arrive_and_wait();
      for (const std::vector<float>& other : all_.given_) {
        if (other.size() != values.size()) throw std::logic_error("ranks reduce different numbers of values");
        for (size_t i = 0; i < values.size(); ++i) values[i] = std::max(values[i], other[i]);
      }
      all_.barrier_.arrive_and_wait();
    }

   private:
    ThreadPeers& all_;
    int rank_;
  };

  std::barrier<> barrier_;
  std::vector<std::vector<float>> given_;
  std::vector<Rank> ranks_;
};

}  // namespace octet
