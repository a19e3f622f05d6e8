// SPDX-License-Identifier: Apache-2.0
#include "octet/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "octet/base/cpu_features.h"
#include "octet/base/error.h"

namespace octet {
namespace {

/// Bits of `state`: how many workers are in the loop, whether it may be joined, and a count of loops that may
/// wrap (a worker that takes a new loop for an old one merely stays out of it).
constexpr uint32_t kActive = 0xffff;
constexpr uint32_t kOpen = 1U << 16;
constexpr uint32_t kGeneration = 1U << 17;

/// Repeats `done` for about `time` and returns whether it came true. With cores to spare nothing is yielded:
/// that costs a system call.
template <class Done>
bool spin(std::chrono::nanoseconds time, bool yield, Done&& done) {
  const auto until = std::chrono::steady_clock::now() + time;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      cpu_relax();
    }
    if (yield) std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < until);
  return done();
}

}  // namespace

/// A loop is opened by the caller, joined by whichever workers are awake, and closed when its indices have
/// run out: the caller waits for those that joined only, so that a worker without a core delays nobody.
struct ThreadPool::Shared {
  alignas(64) std::atomic<uint32_t> state{0};     // workers sleep on it
  alignas(64) std::atomic<int64_t> next{0};       // the first index that nobody has taken
  alignas(64) std::atomic<uint32_t> finished{0};  // the caller sleeps on it
  std::atomic<bool> stop{false};
  std::atomic<bool> busy{false};
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // written by the one that set `failed`, read when no worker is in the loop

  // Of the open loop; constant while it may be joined.
  Invoke invoke = nullptr;
  void* body = nullptr;
  int64_t count = 0;
  int64_t chunk = 1;

  std::chrono::nanoseconds spin_time{};
  bool crowded = false;  // more threads than cores
  std::vector<std::thread> workers;

  void work(int worker) noexcept;
  bool join(uint32_t& seen);
  void leave();
  void serve(int worker);
  void wait_until_empty();
  void shut_down();
};

void ThreadPool::Shared::work(int worker) noexcept {
  try {
    for (;;) {
      const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= count) return;
      const int64_t end = std::min(count, begin + chunk);
      for (int64_t index = begin; index < end; ++index) {
        if (failed.load(std::memory_order_relaxed)) return;
        invoke(body, index, worker);
      }
    }
  } catch (...) {
    if (!failed.exchange(true)) error = std::current_exception();
  }
}

/// Enters the open loop unless it is the one last `seen`.
bool ThreadPool::Shared::join(uint32_t& seen) {
  uint32_t now = state.load(std::memory_order_acquire);
  while ((now & kOpen) != 0 && now / kGeneration != seen) {
    if (state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      seen = now / kGeneration;
      return true;
    }
  }
  return false;
}

void ThreadPool::Shared::leave() {
  const uint32_t before = state.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & (kOpen | kActive)) != 1) return;
  finished.fetch_add(1, std::memory_order_release);
  finished.notify_one();
}

void ThreadPool::Shared::serve(int worker) {
  uint32_t seen = 0;
  while (!stop.load(std::memory_order_acquire)) {
    bool joined = false;
    spin(spin_time, crowded, [&] { return (joined = join(seen)) || stop.load(std::memory_order_relaxed); });
    if (!joined) {
      const uint32_t now = state.load(std::memory_order_acquire);
      const bool news = (now & kOpen) != 0 && now / kGeneration != seen;
      if (!news && !stop.load(std::memory_order_acquire)) state.wait(now, std::memory_order_acquire);
      continue;
    }
    work(worker);
    leave();
  }
}

void ThreadPool::Shared::wait_until_empty() {
  const auto empty = [&] { return (state.load(std::memory_order_acquire) & kActive) == 0; };
  if (spin(spin_time, crowded, empty)) return;
  for (;;) {
    const uint32_t now = finished.load(std::memory_order_acquire);
    if (empty()) return;
    finished.wait(now, std::memory_order_acquire);
  }
}

void ThreadPool::Shared::shut_down() {
  stop.store(true, std::memory_order_release);
  state.fetch_add(kGeneration, std::memory_order_acq_rel);
  state.notify_all();
  for (std::thread& thread : workers) thread.join();
}

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()), threads_(threads) {
  check(threads >= 1 && threads <= 1024,
        "a thread pool has 1 to 1024 threads, not " + std::to_string(threads));
  shared_->crowded = threads > usable_cores();
  shared_->spin_time = std::chrono::microseconds(shared_->crowded ? 2 : 40);
  shared_->workers.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int worker = 1; worker < threads; ++worker) {
      shared_->workers.emplace_back([shared = shared_.get(), worker] { shared->serve(worker); });
    }
  } catch (const std::system_error& error) {
    const size_t started = shared_->workers.size() + 1;
    shared_->shut_down();
    throw DeviceError("only " + std::to_string(started) + " of " + std::to_string(threads) +
                      " threads could be started: " + error.what());
  }
}

ThreadPool::~ThreadPool() {
  shared_->shut_down();
}

void ThreadPool::run(int64_t count, Invoke invoke, void* body) {
  if (count <= 0) return;
  Shared& s = *shared_;
  check(!s.busy.exchange(true, std::memory_order_acquire),
        "a loop of a thread pool is started inside another");
  s.invoke = invoke;
  s.body = body;
  s.count = count;
  s.chunk = std::max<int64_t>(1, count / (int64_t{threads_} * 16));
  s.next.store(0, std::memory_order_relaxed);
  s.failed.store(false, std::memory_order_relaxed);
  const bool alone = threads_ == 1 || count == 1;
  if (!alone) {
    const uint32_t generation = s.state.load(std::memory_order_relaxed) / kGeneration + 1;
    s.state.store(generation * kGeneration + kOpen, std::memory_order_release);
    s.state.notify_all();
  }
  s.work(0);
  if (!alone) {
    s.state.fetch_and(~kOpen, std::memory_order_acq_rel);
    s.wait_until_empty();
  }
  const std::exception_ptr error = std::exchange(s.error, nullptr);
  s.busy.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

}  // namespace octet
