// SPDX-License-Identifier: Apache-2.0
/// What the processor can do at the most, written once over simd_<isa>.h. Included by kernels_<isa>.cpp after
/// it.
#pragma once

#include <cstring>

#include "octet/backend/cpu/ask_streams-inl.h"
#include "octet/backend/cpu/ceiling_kernels.h"

namespace octet::OCTET_ISA {
namespace {

/// `kStreams`: what is needed next is asked for in several places at once.
template <bool kStreams>
inline uint64_t read_all(const std::byte* data, int64_t bytes) {
  constexpr int kVectors = 512 / (kLanes * 4);
  constexpr int64_t kStep = kVectors * kLanes * 4;
  I32 seen[8];
#pragma GCC unroll 8
  for (I32& each : seen) each = set1(int32_t{0});
  int64_t at = 0;
  for (; at + kStep <= bytes; at += kStep) {
    if constexpr (kStreams) {
      ask_in_streams(data + at);
      ask_in_streams(data + at + kStep / 2);
    }
#pragma GCC unroll 64
    for (int i = 0; i < kVectors; ++i) {
      if (!kStreams && (i * kLanes * 4) % 64 == 0) prefetch(data + at + i * kLanes * 4 + 4096);
      seen[i % 8] = bit_or(seen[i % 8], load_lanes(data + at + i * kLanes * 4));
    }
  }
#pragma GCC unroll 8
  for (int i = 1; i < 8; ++i) seen[0] = bit_or(seen[0], seen[i]);
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

inline constexpr CeilingKernels kCeilingKernels = {.read = read_all<false>,
                                                   .read_streams = read_all<true>,
                                                   .copy = copy_all,
                                                   .f32_multiply = multiply_f32,
                                                   .bf16_multiply = nullptr};

}  // namespace octet::OCTET_ISA
