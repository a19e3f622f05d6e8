// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/ceilings.h"

#include <time.h>

#include <algorithm>

#include "octet/backend/cpu/choose_kernels.h"

namespace octet {
namespace {

/// A thread reads this much in a row: less costs bandwidth, more leaves threads idle at the end.
constexpr size_t kSweptTaskBytes = size_t{512} << 10;
constexpr int64_t kLineWords = 8;

}  // namespace

double now_in_seconds(Stopwatch clock) {
  timespec now{};
  ::clock_gettime(clock == Stopwatch::kWall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Ceilings::Ceilings(CpuIsa isa, ThreadPool& threads, Stopwatch clock)
    : kernels_(kernels_for(checked_isa(isa)).ceiling),
      threads_(threads),
      clock_(clock),
      sinks_(static_cast<size_t>(threads.threads() * kLineWords)) {}

double Ceilings::read_seconds(std::span<const ByteSpan> pieces) {
  tasks_.clear();
  for (ByteSpan piece : pieces) {
    for (size_t at = 0; at < piece.size(); at += kSweptTaskBytes) {
      tasks_.push_back(piece.subspan(at, std::min(kSweptTaskBytes, piece.size() - at)));
    }
  }
  return std::min(sweep_seconds(kernels_.read), sweep_seconds(kernels_.read_streams));
}

double Ceilings::sweep_seconds(Read read) {
  return seconds_of(clock_, [&] {
    threads_.parallel_for(static_cast<int64_t>(tasks_.size()), [&](int64_t i, int worker) {
      const ByteSpan task = tasks_[static_cast<size_t>(i)];
      sinks_[static_cast<size_t>(worker * kLineWords)] +=
          read(task.data(), static_cast<int64_t>(task.size()));
    });
  });
}

double Ceilings::copy_seconds(const std::byte* from, std::byte* into, int64_t bytes) {
  constexpr auto kTask = static_cast<int64_t>(kSweptTaskBytes);
  return seconds_of(clock_, [&] {
    threads_.parallel_for((bytes + kTask - 1) / kTask, [&](int64_t i, int) {
      kernels_.copy(from + i * kTask, into + i * kTask, std::min(kTask, bytes - i * kTask));
    });
  });
}

double Ceilings::flops(Multiply multiply, double seconds) {
  constexpr int64_t kRounds = 4096;
  std::vector<int64_t> done(static_cast<size_t>(threads_.threads()) * kLineWords);
  double end = 0;
  const double took = seconds_of(clock_, [&] {
    end = now_in_seconds(Stopwatch::kWall) + seconds;
    threads_.parallel_for(threads_.threads(), [&](int64_t index, int) {
      float sink[2] = {1e-3F, 1e-3F};
      do {
        done[static_cast<size_t>(index * kLineWords)] += multiply(kRounds, sink);
        sink[0] = sink[0] == 0 ? 1.0F : 1e-3F;
      } while (now_in_seconds(Stopwatch::kWall) < end);
    });
  });
  int64_t operations = 0;
  for (const int64_t each : done) operations += each;
  return static_cast<double>(operations) / took;
}

double Ceilings::f32_flops(double seconds) {
  return flops(kernels_.f32_multiply, seconds);
}

double Ceilings::bf16_flops(double seconds) {
  return flops(kernels_.bf16_multiply != nullptr ? kernels_.bf16_multiply : kernels_.f32_multiply, seconds);
}

double Ceilings::bf16_flops_from_cache(double seconds) {
  return kernels_.bf16_multiply_read != nullptr ? flops(kernels_.bf16_multiply_read, seconds)
                                                : bf16_flops(seconds);
}

}  // namespace octet
