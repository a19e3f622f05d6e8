// SPDX-License-Identifier: Apache-2.0
/// Repeatable numbers that are the same with every standard library.
#pragma once

#include <cstdint>

namespace octet::conformance {

/// SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  [[nodiscard]] uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  /// In [0, count).
  [[nodiscard]] int64_t below(int64_t count) {
    return static_cast<int64_t>(next() % static_cast<uint64_t>(count));
  }
  /// In [low, high).
  [[nodiscard]] float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24F;
  }
  /// Like a bell: the sum of four uniform numbers, mean 0, deviation 1.
  [[nodiscard]] float bell() {
    constexpr float kWidth = 0.8660254F;  // a uniform number in [-w, w) has variance w^2 / 3
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += uniform(-kWidth, kWidth);
    return sum;
  }

 private:
  uint64_t state_;
};

}  // namespace octet::conformance
