// SPDX-License-Identifier: Apache-2.0
/// What the processor can do at the most, written once over simd_<isa>.h. Included by kernels_<isa>.cpp after
/// it.
#pragma once

#include <cstring>

#include "octet/backend/cpu/ceiling_kernels.h"

namespace octet::OCTET_ISA {
namespace {

inline uint64_t read_all(const std::byte* data, int64_t bytes) {
  constexpr int kStreams = 8;
  constexpr int64_t kStep = kStreams * kLanes * 4;
  I32 seen[kStreams];
#pragma GCC unroll 16
  for (int i = 0; i < kStreams; ++i) seen[i] = set1(int32_t{0});
  int64_t at = 0;
  for (; at + kStep <= bytes; at += kStep) {
#pragma GCC unroll 16
    for (int i = 0; i < kStreams; ++i) {
      if ((i * kLanes * 4) % 64 == 0) prefetch(data + at + i * kLanes * 4 + 4096);
      seen[i] = bit_or(seen[i], load_lanes(data + at + i * kLanes * 4));
    }
  }
#pragma GCC unroll 16
  for (int i = 1; i < kStreams; ++i) seen[0] = bit_or(seen[0], seen[i]);
  alignas(64) uint64_t words[sizeof(I32) / 8];
  store_lanes(words, seen[0]);
  uint64_t result = 0;
  for (const uint64_t word : words) result |= word;
  for (; at < bytes; ++at) result |= static_cast<uint64_t>(data[at]);
  return result;
}

inline void copy_all(const std::byte* from, std::byte* into, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kLanes * 4) {
    prefetch(from + at + 4096);
    stream_lanes(into + at, load_lanes(from + at));
  }
  end_of_stream();
}

/// As many independent sums as hide the latency of the instruction. The operands come from `sink`, so that
/// nothing is known of them when this is compiled.
template <class Step>
inline float multiply_rounds(int64_t rounds, F32 a, F32 b, float start, Step step) {
  constexpr int kSums = kLanes == 16 ? 24 : 12;
  F32 sum[kSums];
#pragma GCC unroll 24
  for (int i = 0; i < kSums; ++i) sum[i] = set1(start * static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; ++i) sum[i] = step(a, b, sum[i]);
  }
#pragma GCC unroll 24
  for (int i = 1; i < kSums; ++i) sum[0] = add(sum[0], sum[i]);
  float lanes[kLanes];
  store(lanes, sum[0]);
  float result = 0;
  for (const float lane : lanes) result += lane;
  return result;
}

inline constexpr int64_t kSumsPerRound = kLanes == 16 ? 24 : 12;

inline int64_t multiply_f32(int64_t rounds, float* sink) {
  const F32 a = set1(sink[0]);
  const F32 b = set1(sink[1]);
  sink[0] = multiply_rounds(rounds, a, b, sink[0], [](F32 x, F32 y, F32 sum) { return fma(x, y, sum); });
  return rounds * kSumsPerRound * kLanes * 2;
}

}  // namespace

inline constexpr CeilingKernels kCeilingKernels = {
    .read = read_all, .copy = copy_all, .f32_multiply = multiply_f32, .bf16_multiply = nullptr};

}  // namespace octet::OCTET_ISA
