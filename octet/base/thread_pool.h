// SPDX-License-Identifier: Apache-2.0
/// A fixed set of worker threads for loops whose pieces are independent. Started once, never inside a step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace octet {

/// `threads` includes the calling thread: 1 starts none. Idle workers spin for some tens of microseconds (a
/// decode step issues a hundred loops in a row), then sleep.
class ThreadPool {
 public:
  /// Throws ArgumentError unless 1 <= threads <= 1024.
  explicit ThreadPool(int threads);
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

  struct Shared;
  std::unique_ptr<Shared> shared_;
  int threads_ = 1;
};

}  // namespace octet
