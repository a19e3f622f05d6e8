// SPDX-License-Identifier: Apache-2.0
/// What this machine can do at the most, measured here and now: every speed that Octet reports is a fraction
/// of one of these, taken in the same run, since machines differ and one machine differs from minute to
/// minute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/ceiling_kernels.h"

namespace octet {

/// A piece of memory to read.
using ByteSpan = std::span<const std::byte>;

/// What a timing counts: time passed, or the time that the calling thread itself was running. The second is
/// for a pool of one thread on a machine that is shared with other work, where it leaves out what others
/// took.
enum class Stopwatch { kWall, kThread };

/// Seconds since some moment in the past.
[[nodiscard]] double now_in_seconds(Stopwatch clock);

/// Seconds that body() takes.
template <class Body>
[[nodiscard]] double seconds_of(Stopwatch clock, Body&& body) {
  const double begin = now_in_seconds(clock);
  body();
  return now_in_seconds(clock) - begin;
}

/// Uses the threads of the pool it is given, which must outlive it. Not thread-safe.
class Ceilings {
 public:
  /// Throws ConfigError when the machine lacks `isa`.
  Ceilings(CpuIsa isa, ThreadPool& threads, Stopwatch clock = Stopwatch::kWall);

  /// Seconds that one sweep over all bytes of `pieces` takes, in the faster of two orders: the least that
  /// decoding one token with these weights can.
  [[nodiscard]] double read_seconds(std::span<const ByteSpan> pieces);
  /// Seconds to copy `bytes` (a multiple of 64) between buffers aligned to 64 bytes: reading and writing.
  [[nodiscard]] double copy_seconds(const std::byte* from, std::byte* into, int64_t bytes);
  /// Operations a second (a multiply-add is two) of all threads, from a loop of about `seconds`.
  [[nodiscard]] double f32_flops(double seconds = 0.005);
  /// The same of bfloat16 dot products; f32_flops() where the instruction set has none.
  [[nodiscard]] double bf16_flops(double seconds = 0.005);
  /// The same with operands out of the second cache: what a multiply that keeps them there can reach. Tile
  /// registers hold too few of them to hide it. bf16_flops() for other instruction sets.
  [[nodiscard]] double bf16_flops_from_cache(double seconds = 0.005);

 private:
  using Read = uint64_t (*)(const std::byte* data, int64_t bytes);
  /// Of one sweep over tasks_.
  [[nodiscard]] double sweep_seconds(Read read);
  using Multiply = int64_t (*)(int64_t rounds, float* sink);
  [[nodiscard]] double flops(Multiply multiply, double seconds);

  const CeilingKernels& kernels_;
  ThreadPool& threads_;
  Stopwatch clock_;
  std::vector<ByteSpan> tasks_;
  std::vector<uint64_t> sinks_;  // one cache line for each thread
};

}  // namespace octet
