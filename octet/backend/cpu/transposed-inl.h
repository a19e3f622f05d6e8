// SPDX-License-Identifier: Apache-2.0
/// One token times a panel from the left: sums over the rows of a panel, not over its columns, so that a
/// stored matrix serves as its own transpose. Written once over lanes-inl.h.
#pragma once

#include "octet/backend/cpu/lanes-inl.h"
#include "octet/backend/cpu/normal_lanes-inl.h"
#include "octet/backend/cpu/ops_kernels.h"

namespace octet::OCTET_ISA {
namespace lanes {

/// How the columns of one row lie in a 32-bit lane. `of` gives column `part` of a lane; for FP8 by moving the
/// bits of the code to those of a float32, the value times 2^-kShrunk, right for finite codes only, and
/// `is_special` marks the others.
struct LaneE4M3 {
  static constexpr int kColumns = 4;
  static constexpr int kShrunk = 120;
  static F32 of(I32 lane, int part) {
    const I32 spread = lane << (24 - 8 * part);
    return as_float((spread >> 4) & static_cast<int32_t>(0x80000000U | 0x07f00000U));
  }
  static I32 is_special(I32 lane, int part) { return ((lane >> (8 * part)) & 0x7f) == 0x7f; }
};
struct LaneE5M2 {
  static constexpr int kColumns = 4;
  static constexpr int kShrunk = 112;
  static F32 of(I32 lane, int part) {
    const I32 spread = lane << (24 - 8 * part);
    return as_float((spread >> 3) & static_cast<int32_t>(0x80000000U | 0x0fe00000U));
  }
  static I32 is_special(I32 lane, int part) { return ((lane >> (8 * part)) & 0x7f) >= 0x7c; }
};
/// As LaneE4M3 and LaneE5M2, with no subnormal float32.
template <class Lane, int kMantissa>
struct LaneNormal : Lane {
  static constexpr int kShrunk = Lane::kShrunk - kMoreExponent<kMantissa>;
  static F32 of(I32 lane, int part) { return normal_values<kMantissa>(lane << (24 - 8 * part)); }
};
struct LaneBF16 {
  static constexpr int kColumns = 2;
  static constexpr int kShrunk = 0;
  static F32 of(I32 lane, int part) {
    return as_float(part == 0 ? lane << 16 : lane & static_cast<int32_t>(0xffff0000U));
  }
  static I32 is_special(I32, int) { return I32{}; }
};
struct LaneF16 {
  static constexpr int kColumns = 2;
  static constexpr int kShrunk = 0;
  static F32 of(I32 lane, int part) { return from_half(low_halves((lane >> (16 * part)) & 0xffff)); }
  static I32 is_special(I32, int) { return I32{}; }
};
struct LaneF32 {
  static constexpr int kColumns = 1;
  static constexpr int kShrunk = 0;
  static F32 of(I32 lane, int) { return as_float(lane); }
  static I32 is_special(I32, int) { return I32{}; }
};

constexpr float power_of_two(int exponent) {
  return __builtin_bit_cast(float, (127 + exponent) << 23);
}

template <class Lane>
bool multiply_transposed(const TransposedRun& run) {
  constexpr int kVectors = 64 / kLanes;
  constexpr int64_t kLaneGroup = 256;
  F32 x[kVectors];
  // A part of the power of two on each side, so that neither products nor sums leave the range of float32.
  constexpr int kPowerBefore = Lane::kShrunk == 0 ? 0 : 60;
  constexpr float kBefore = power_of_two(kPowerBefore);
  constexpr float kAfter = power_of_two(Lane::kShrunk - kPowerBefore);
  for (int v = 0; v < kVectors; ++v) x[v] = load<F32>(run.x + v * kLanes) * kBefore;
  I32 special{};
  for (int64_t first = run.begin; first < run.end; first += kLanes) {
    F32 sums[kLanes] = {};
    const int64_t count = run.end - first < kLanes ? run.end - first : kLanes;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t col = first + i;
      const std::byte* group = run.panel + col / Lane::kColumns * kLaneGroup;
      const int part = static_cast<int>(col % Lane::kColumns);
      F32 sum{};
      for (int v = 0; v < kVectors; ++v) {
        const I32 lane = load<I32>(group + v * kLanes * 4);
        special |= Lane::is_special(lane, part);
        sum = fma(Lane::of(lane, part), x[v], sum);
      }
      sums[i] = sum;
    }
    const F32 totals = sum_each(sums) * kAfter;
    narrow_some(widen_some(run.y + first, count) + totals, run.y + first, count);
  }
  int32_t seen[kLanes];
  save(seen, special);
  for (const int32_t lane : seen) {
    if (lane != 0) return true;
  }
  return false;
}

}  // namespace lanes

inline constexpr TransposedKernels kTransposedKernels = {
    .panel = {lanes::multiply_transposed<lanes::LaneE4M3>, lanes::multiply_transposed<lanes::LaneE5M2>,
              lanes::multiply_transposed<lanes::LaneBF16>, lanes::multiply_transposed<lanes::LaneF16>,
              lanes::multiply_transposed<lanes::LaneF32>},
};
inline constexpr TransposedKernels kNormalTransposedKernels = {
    .panel = {lanes::multiply_transposed<lanes::LaneNormal<lanes::LaneE4M3, 3>>,
              lanes::multiply_transposed<lanes::LaneNormal<lanes::LaneE5M2, 2>>, kTransposedKernels.panel[2],
              kTransposedKernels.panel[3], kTransposedKernels.panel[4]},
};

}  // namespace octet::OCTET_ISA
