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

/// The loop that runs, and how far it is.
struct ThreadPool::Loop {
  alignas(64) std::atomic<int64_t> next{0};  // the first index that nobody has taken
  std::atomic<bool> busy{false};
  std::atomic<bool> failed{false};
  std::exception_ptr error;  // written by the one that set `failed`, read when no other thread is in the loop

  // Constant while the loop runs.
  Invoke invoke = nullptr;
  void* body = nullptr;
  int64_t count = 0;
  int64_t chunk = 1;

  void work(int worker) noexcept;
};

void ThreadPool::Loop::work(int worker) noexcept {
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

/// Whose threads work.
class ThreadPool::Team {
 public:
  Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  virtual ~Team() = default;
  /// Calls loop.work on several threads, this one among them; returns when none is in it any more.
  virtual void run(Loop& loop) = 0;
};

/// A loop is opened by the caller, joined by whichever workers are awake, and closed when its indices have
/// run out: the caller waits for those that joined only, so that a worker without a core delays nobody.
class ThreadPool::OwnTeam final : public Team {
 public:
  explicit OwnTeam(int threads);
  ~OwnTeam() override { shut_down(); }
  void run(Loop& loop) override;

 private:
  bool join(uint32_t& seen);
  void leave();
  void serve(int worker);
  void wait_until_empty();
  void shut_down();

  alignas(64) std::atomic<uint32_t> state_{0};     // workers sleep on it
  alignas(64) std::atomic<uint32_t> finished_{0};  // the caller sleeps on it
  std::atomic<bool> stop_{false};
  Loop* loop_ = nullptr;  // constant while it may be joined
  bool crowded_ = false;  // more threads than cores
  std::chrono::nanoseconds spin_time_{};
  std::vector<std::thread> workers_;
};

ThreadPool::OwnTeam::OwnTeam(int threads)
    : crowded_(threads > usable_cores()), spin_time_(std::chrono::microseconds(crowded_ ? 2 : 40)) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { serve(worker); });
    }
  } catch (const std::system_error& error) {
    const size_t started = workers_.size() + 1;
    shut_down();
    throw DeviceError("only " + std::to_string(started) + " of " + std::to_string(threads) +
                      " threads could be started: " + error.what());
  }
}

/// Enters the open loop unless it is the one last `seen`.
bool ThreadPool::OwnTeam::join(uint32_t& seen) {
  uint32_t now = state_.load(std::memory_order_acquire);
  while ((now & kOpen) != 0 && now / kGeneration != seen) {
    if (state_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      seen = now / kGeneration;
      return true;
    }
  }
  return false;
}

void ThreadPool::OwnTeam::leave() {
  const uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & (kOpen | kActive)) != 1) return;
  finished_.fetch_add(1, std::memory_order_release);
  finished_.notify_one();
}

void ThreadPool::OwnTeam::serve(int worker) {
  uint32_t seen = 0;
  while (!stop_.load(std::memory_order_acquire)) {
    bool joined = false;
    spin(spin_time_, crowded_,
         [&] { return (joined = join(seen)) || stop_.load(std::memory_order_relaxed); });
    if (!joined) {
      const uint32_t now = state_.load(std::memory_order_acquire);
      const bool news = (now & kOpen) != 0 && now / kGeneration != seen;
      if (!news && !stop_.load(std::memory_order_acquire)) state_.wait(now, std::memory_order_acquire);
      continue;
    }
    loop_->work(worker);
    leave();
  }
}

void ThreadPool::OwnTeam::wait_until_empty() {
  const auto empty = [&] { return (state_.load(std::memory_order_acquire) & kActive) == 0; };
  if (spin(spin_time_, crowded_, empty)) return;
  for (;;) {
    const uint32_t now = finished_.load(std::memory_order_acquire);
    if (empty()) return;
    finished_.wait(now, std::memory_order_acquire);
  }
}

void ThreadPool::OwnTeam::run(Loop& loop) {
  loop_ = &loop;
  const uint32_t generation = state_.load(std::memory_order_relaxed) / kGeneration + 1;
  state_.store(generation * kGeneration + kOpen, std::memory_order_release);
  state_.notify_all();
  loop.work(0);
  state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  wait_until_empty();
}

void ThreadPool::OwnTeam::shut_down() {
  stop_.store(true, std::memory_order_release);
  state_.fetch_add(kGeneration, std::memory_order_acq_rel);
  state_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

/// Threads of another library, numbered as they come.
class ThreadPool::BorrowedTeam final : public Team {
 public:
  explicit BorrowedTeam(Threads threads)
      : call_(threads.borrowed), threads_(static_cast<unsigned>(threads.count)) {}

  void run(Loop& loop) override {
    Guest guest{.loop = loop};
    call_([](void* data) { static_cast<Guest*>(data)->work(); }, &guest, threads_, 0);
  }

 private:
  struct Guest {
    Loop& loop;
    std::atomic<int> arrived{0};

    void work() { loop.work(arrived.fetch_add(1, std::memory_order_relaxed)); }
  };

  ParallelCall call_;
  unsigned threads_;
};

ThreadPool::ThreadPool(Threads threads) : loop_(std::make_unique<Loop>()), threads_(threads.count) {
  check(threads_ >= 1 && threads_ <= 1024,
        "a thread pool has 1 to 1024 threads, not " + std::to_string(threads_));
  if (threads.borrowed != nullptr) {
    team_ = std::make_unique<BorrowedTeam>(threads);
  } else {
    team_ = std::make_unique<OwnTeam>(threads_);
  }
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::run(int64_t count, Invoke invoke, void* body) {
  if (count <= 0) return;
  Loop& loop = *loop_;
  check(!loop.busy.exchange(true, std::memory_order_acquire),
        "a loop of a thread pool is started inside another");
  loop.invoke = invoke;
  loop.body = body;
  loop.count = count;
  loop.chunk = std::max<int64_t>(1, count / (int64_t{threads_} * 16));
  loop.next.store(0, std::memory_order_relaxed);
  loop.failed.store(false, std::memory_order_relaxed);
  if (threads_ == 1 || count == 1) {
    loop.work(0);
  } else {
    team_->run(loop);
  }
  const std::exception_ptr error = std::exchange(loop.error, nullptr);
  loop.busy.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

}  // namespace octet
