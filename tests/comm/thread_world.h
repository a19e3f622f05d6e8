// SPDX-License-Identifier: Apache-2.0
/// Ranks as threads of one process, for tests: the same calls as over MPI, without a launcher.
#pragma once

#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "octet/base/error.h"
#include "octet/comm/communicator.h"

namespace octet::test {

/// What the threads meet in. A rank that fails wakes all others, whose calls then throw.
class ThreadWorld {
 public:
  explicit ThreadWorld(int size) : given_(static_cast<size_t>(size)), size_(size) {}

  /// Returns with the bytes of all ranks once all have come; they stay valid until `leave`.
  std::span<const std::span<std::byte>> meet(int rank, std::span<std::byte> mine) {
    std::unique_lock lock(mutex_);
    given_[static_cast<size_t>(rank)] = mine;
    pass(lock);
    return given_;
  }
  void leave() {
    std::unique_lock lock(mutex_);
    pass(lock);
  }
  void fail() {
    const std::scoped_lock lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

 private:
  void pass(std::unique_lock<std::mutex>& lock) {
    const int64_t round = round_;
    if (++here_ == size_) {
      here_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return round_ != round || failed_; });
    }
    if (failed_) throw DeviceError("another rank has failed");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::span<std::byte>> given_;
  int size_;
  int here_ = 0;
  int64_t round_ = 0;
  bool failed_ = false;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(ThreadWorld& world, int rank, int world_size)
      : Communicator(rank, world_size), world_(world) {}

  void barrier() override {
    exchange({}, [](auto) {});
  }

 private:
  template <class Take>
  void exchange(std::span<const std::byte> mine, Take&& take) {
    // Only rank 0's bytes are ever written to, and only by rank 0 itself.
    const std::span<std::byte> given(const_cast<std::byte*>(mine.data()), mine.size());
    take(world_.meet(rank(), given));
    world_.leave();
  }
  static void copy_all(std::span<const std::span<std::byte>> given, std::span<std::byte> all) {
    size_t place = 0;
    for (const std::span<std::byte> part : given) {
      if (!part.empty()) std::memcpy(all.data() + place, part.data(), part.size());
      place += part.size();
    }
  }
  void gather_to_all(std::span<const std::byte> mine, std::span<std::byte> all) override {
    exchange(mine, [&](auto given) { copy_all(given, all); });
  }
  void gather_to_first(std::span<const std::byte> mine, std::span<const int64_t> /*bytes*/,
                       std::span<std::byte> all) override {
    exchange(mine, [&](auto given) {
      if (rank() == 0) copy_all(given, all);
    });
  }
  void send_to_all(std::span<std::byte> bytes) override {
    exchange(bytes, [&](auto given) {
      if (rank() != 0) std::memcpy(bytes.data(), given.front().data(), bytes.size());
    });
  }

  ThreadWorld& world_;
};

/// Runs `body(communicator)` on `size` ranks at once and rethrows what was thrown first.
inline void run_ranks(int size, const std::function<void(Communicator&)>& body) {
  ThreadWorld world(size);
  std::exception_ptr first;
  std::mutex first_mutex;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        ThreadCommunicator communicator(world, rank, size);
        body(communicator);
      } catch (...) {
        const std::scoped_lock lock(first_mutex);
        if (!first) first = std::current_exception();
        world.fail();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace octet::test
