// SPDX-License-Identifier: Apache-2.0
#include "bench/bench_support.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

namespace octet::bench {

uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

void fill_codes(std::span<std::byte> bytes, uint64_t seed) {
  for (size_t i = 0; i < bytes.size(); i += 8) {
    // Without the top bit of the magnitude every code is finite in both formats.
    const uint64_t word = next_random(seed) & 0xbfbfbfbfbfbfbfbfU;
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, bytes.size() - i));
  }
}

void fill_bell(std::span<float> values, uint64_t seed) {
  for (float& value : values) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(next_random(seed) >> 40) * 0x1p-24F - 0.5F;
    value = sum * 1.7320508F;
  }
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Stopwatch clock_for(int threads) {
  return threads == 1 ? Stopwatch::kThread : Stopwatch::kWall;
}

const char* describe(Stopwatch clock) {
  return clock == Stopwatch::kThread ? "time in which the thread ran" : "time passed";
}

int exit_code_of(const std::function<int()>& run) {
  try {
    return run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace octet::bench
