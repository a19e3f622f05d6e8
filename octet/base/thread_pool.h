// SPDX-License-Identifier: Apache-2.0
/// A fixed set of worker threads for loops whose pieces are independent. Started once, never inside a step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace octet {

/// Runs call(data) on up to `threads` threads at once, the caller's among them, and returns when all have:
/// what the runtimes of OpenMP export as GOMP_parallel (`flags` is 0).
using ParallelCall = void (*)(void (*call)(void*), void* data, unsigned threads, unsigned flags);

/// How many threads a pool has, and whose they are.
struct Threads {
  // NOLINTNEXTLINE(google-explicit-constructor): a number is all that most have to say
  Threads(int wanted, ParallelCall call = nullptr) : count(wanted), borrowed(call) {}

  int count;  ///< 1..1024, the calling thread among them: 1 starts none
  /// Not null: loops run on the threads of another library, which must be there as long as the pool, and none
  /// is started. For a program whose own threads spin between its loops as a pool's do: two such sets would
  /// take each other's cores.
  ParallelCall borrowed;
};

/// Idle workers spin for some tens of microseconds (a
/// decode step issues a hundred loops in a row), then sleep.
class ThreadPool {
 public:
  /// Throws ArgumentError unless 1 <= threads.count <= 1024.
  explicit ThreadPool(Threads threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const { return threads_; }

  /// Calls body(index, worker) once for every index in [0, count); worker in [0, threads()) names the thread,
  /// for scratch memory. Returns when all are done. Indices are handed out dynamically in ascending order.
  /// The first exception of a body is rethrown here, after every running body has ended. Not reentrant: one
  /// loop at a time, from one thread. Allocates nothing.
  template <class Body>
  void parallel_for(int64_t count, Body&& body) {
    run(
        count,
        [](void* b, int64_t index, int worker) {
          (*static_cast<std::remove_reference_t<Body>*>(b))(index, worker);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Invoke = void (*)(void*, int64_t, int);
  void run(int64_t count, Invoke invoke, void* body);

  struct Loop;
  class Team;
  class OwnTeam;
  class BorrowedTeam;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Team> team_;
  int threads_ = 1;
};

}  // namespace octet
