// SPDX-License-Identifier: Apache-2.0
/// How sums of products become outputs: scaled, added to those of the segments before, all while they are
/// still in registers. Included by multiply-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "octet/backend/cpu/multiply_kernels.h"

namespace octet::OCTET_ISA {
namespace {

inline constexpr int64_t kRows = 64;
/// Where the parts of a task's scratch begin, in bytes; its sums at 0.
inline constexpr int64_t kTotalsOffset = kMaxTokens * kCellBytes;
inline constexpr int64_t kFactorsOffset = kTotalsOffset + kMaxTokens * kCellBytes;
inline constexpr int64_t kGatheredOffset = kFactorsOffset + kMaxPieces * kMaxTokens * 4;
inline constexpr int64_t kDecodedOffset = kGatheredOffset + kChunkCells * kCellBytes;

/// Of one segment: into [t, r] = before [t, r] + sum [t, r] * factors [t] * scales [r] + bias [r].
struct Fold {
  const float* scales;   // [64]
  const float* factors;  // [tokens] or null: all one
  const float* before;   // [tokens, 64] or null
  const float* bias;     // [64] or null
  float* into;           // [tokens, into_stride]
  int64_t into_stride;
  bool stream;  // past the caches: `into` is aligned for it
};

/// The sums of T tokens by V vectors as they were stored at `from` [T, 64], or zeros.
template <int V, int T>
[[gnu::always_inline]] inline void begin_sums(const float* from, F32 (&sum)[T][V]) {
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[t][v] = from != nullptr ? load(from + t * kRows + v * kLanes) : zero();
  }
}
template <int V, int T>
[[gnu::always_inline]] inline void keep_sums(const F32 (&sum)[T][V], float* into) {
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(into + t * kRows + v * kLanes, sum[t][v]);
  }
}

template <int V, int T, class Body>
[[gnu::always_inline]] inline void for_each_sum(F32 (&sum)[T][V], Body&& body) {
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) body(t, v, sum[t][v]);
  }
}

/// What `into` becomes, of T tokens from `token` on and V vectors of rows from `row` on.
template <int V, int T>
[[gnu::always_inline]] inline void scale_sums(const Fold& fold, int64_t token, int64_t row,
                                              F32 (&sum)[T][V]) {
  const auto each = [&](auto&& body) __attribute__((always_inline)) { for_each_sum(sum, body); };
  if (const float* factors = fold.factors; factors != nullptr)
    each([&](int t, int, F32& s) { s = mul(s, set1(factors[token + t])); });
  const float* scales = fold.scales + row;
  each([&](int, int v, F32& s) { s = mul(s, load(scales + v * kLanes)); });
  if (fold.before != nullptr) {
    const float* before = fold.before + token * kRows + row;
    each([&](int t, int v, F32& s) { s = add(load(before + t * kRows + v * kLanes), s); });
  }
  if (fold.bias != nullptr) {
    const float* bias = fold.bias + row;
    each([&](int, int v, F32& s) { s = add(s, load(bias + v * kLanes)); });
  }
}
template <int V, int T>
[[gnu::always_inline]] inline void fold_sums(const Fold& fold, int64_t token, int64_t row, F32 (&sum)[T][V]) {
  scale_sums(fold, token, row, sum);
  const int64_t stride = fold.into_stride;
  float* into = fold.into + token * stride + row;
  for_each_sum(sum, [&](int t, int v, F32 s)
                        __attribute__((always_inline)) { store(into + t * stride + v * kLanes, s); });
}

/// Where a task's outputs go. Totals of the segments lie side by side, as rows of y do not: these often lie a
/// power of two apart, on the same few lines of the caches. The last segment's go straight to y, but for
/// outputs that are still to be narrowed and panels of which not all rows are asked for.
class Outputs {
 public:
  /// Outputs of more than `direct_tokens` are copied from the totals at the end.
  explicit Outputs(const PanelTask& task, int64_t direct_tokens = kFusedLimit)
      : task_(task),
        totals_(reinterpret_cast<float*>(task.scratch + kTotalsOffset)),
        whole_(task.row_begin == 0 && task.row_end == kRows),
        direct_(whole_ && task.narrow_y == nullptr && task.tokens <= direct_tokens),
        streams_(whole_ && task.narrow_y == nullptr && task.stream_y && aligned()) {
    bool ones = task.x_scales == nullptr;
    for (int64_t t = 0; t < task.tokens; ++t) ones &= task.up[t] == 1;
    ones_ = ones;
  }

  /// Of segment `index`; `scales` [64] and `factors` [tokens] are for what has to be gathered.
  [[nodiscard]] Fold fold(int64_t index, float* scales, float* factors) const {
    const bool last = index + 1 == task_.segment_count;
    const MultiplySegment& segment = task_.segments[index];
    return {.scales = task_.row_scales != nullptr ? task_.row_scales : gather_scales(segment, scales),
            .factors = ones_ ? nullptr : gather_factors(segment, factors),
            .before = index == 0 ? nullptr : totals_,
            .bias = last ? task_.bias : nullptr,
            .into = last && direct_ ? task_.y : totals_,
            .into_stride = last && direct_ ? task_.y_stride : kRows,
            .stream = last && direct_ && streams_};
  }

  /// After the last segment.
  void finish() const {
    if (!direct_) copy_totals();
    if (streams_) end_of_stream();
  }

 private:
  void copy_totals() const {
    const int64_t rows = task_.row_end - task_.row_begin;
    for (int64_t t = 0; t < task_.tokens; ++t) {
      const float* row = totals_ + t * kRows + task_.row_begin;
      const int64_t at = t * task_.y_stride + task_.row_begin;
      if (task_.narrow_y != nullptr) {
        constexpr int64_t kBytes = 2;  // of either narrow type
        task_.narrow(DType::kF32, reinterpret_cast<const std::byte*>(row), rows, task_.narrow_dtype,
                     task_.narrow_y + at * kBytes);
      } else if (streams_) {
        for (int64_t r = 0; r < kRows; r += kLanes) stream_lanes(task_.y + at + r, load_lanes(row + r));
      } else if (whole_) {
        for (int64_t r = 0; r < kRows; r += kLanes) store(task_.y + at + r, load(row + r));
      } else {
        std::memcpy(task_.y + at, row, static_cast<size_t>(rows) * sizeof(float));
      }
    }
  }

  [[nodiscard]] const float* gather_scales(const MultiplySegment& segment, float* scales) const {
    if (!whole_) std::memset(scales, 0, kRows * sizeof(float));
    for (int64_t i = 0; i < task_.run_count; ++i) {
      const ScaleRun& run = task_.runs[i];
      const float scale = run.scales[segment.w_scale];
      if (run.end - run.begin == kRows) {
        for (int64_t r = 0; r < kRows; r += kLanes) store(scales + r, set1(scale));
        break;
      }
      for (int32_t r = run.begin; r < run.end; ++r) scales[r] = scale;
    }
    return scales;
  }
  [[nodiscard]] const float* gather_factors(const MultiplySegment& segment, float* factors) const {
    if (task_.x_scales == nullptr) return task_.up;
    const float* x_scales = task_.x_scales + segment.x_scale;
    for (int64_t t = 0; t < task_.tokens; ++t) factors[t] = task_.up[t] * x_scales[t * task_.x_scale_stride];
    return factors;
  }

  [[nodiscard]] bool aligned() const {
    return reinterpret_cast<uintptr_t>(task_.y) % (kLanes * 4) == 0 && task_.y_stride % kLanes == 0;
  }

  const PanelTask& task_;
  float* totals_;  // [kMaxTokens, 64]
  bool whole_;
  bool direct_;
  bool streams_;
  bool ones_;  // every factor is one
};

}  // namespace
}  // namespace octet::OCTET_ISA
