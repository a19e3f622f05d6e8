// SPDX-License-Identifier: Apache-2.0
/// The multiply, written once over simd_<isa>.h. Included by kernels_<isa>.cpp after it.
///
/// Every output is summed over k in ascending order in one float32 accumulator, whichever of the loops below
/// computes it; where they stop between chunks of columns the accumulators are stored and loaded again, which
/// changes no bit.
#pragma once

#include <cstring>
#include <utility>

#include "octet/backend/cpu/multiply_formats-inl.h"
#include "octet/backend/cpu/multiply_kernels.h"

namespace octet::OCTET_ISA {
namespace {

inline constexpr int64_t kRows = 64;
inline constexpr int64_t kPanelVectors = kRows / kLanes;
/// How far ahead of the multiply a line of weights is asked for: by a single pass over them,
inline constexpr int64_t kPrefetchBytes = 4096;
/// and where several strips pass over a chunk of columns one after another: the strip's own lines in the next
/// chunk.
template <class W>
inline constexpr int64_t kChunkBytes = kChunkCells * W::Decoded::kCells / W::kCells * kCellBytes;
/// Where each token's pass is short, a chunk and the next one share the first cache with x.
template <class W>
inline constexpr int64_t kFusedBytes = kLanes < 16 ? 16384 : kChunkBytes<W> / 2;

/// What a loop over a strip of rows works on.
struct Strip {
  const std::byte* weights;  // the strip's part of the first group
  int64_t groups;
  const std::byte* x;  // cells of the first token
  int64_t x_stride;    // in bytes
  float* sums;         // [tokens, 64] at the strip's first row
  bool resume;         // the sums go on from `sums`
  std::byte* decoded;  // where cells that are widened stay, for the tiles after this one
};

/// Where a strip's weights lie: in the panel, or widened in Chunk::decoded, which holds the strip alone.
enum class From { kPanel, kDecoded };
/// The distance between the groups of a strip of V vectors.
template <int V, From kFrom>
inline constexpr int64_t kGroupBytes = kFrom == From::kPanel ? kCellBytes : V * kLanes * 4;

/// One token: group by group, the vectors of rows one after another, the group's cells of x in registers.
template <class W, int V, From kFrom>
inline void multiply_one(const std::byte* w, const std::byte* x, int64_t groups, F32 (&sum)[V],
                         Specials& specials) {
  for (int64_t g = 0; g < groups; ++g) {
    typename W::Operand cells[W::kCells];
#pragma GCC unroll 4
    for (int j = 0; j < W::kCells; ++j) cells[j] = W::broadcast(x + j * 4);
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const std::byte* at = w + v * kLanes * 4;
      if ((v * kLanes * 4) % 64 == 0) prefetch(at + kPrefetchBytes);
      const I32 lanes = load_lanes(at);
      if constexpr (W::kHasSpecials) specials.see(lanes);
      const typename W::Prepared prepared = W::prepare(lanes);
#pragma GCC unroll 4
      for (int j = 0; j < W::kCells; ++j) sum[v] = W::multiply_add(W::widen(prepared, j), cells[j], sum[v]);
    }
    w += kGroupBytes<V, kFrom>;
    x += W::kCells * 4;
  }
}

/// One column of the vectors of rows v and v + 1, widened from memory, for T tokens.
template <class W, int V, int T, int kColumn, bool kKeeps>
[[gnu::always_inline]] inline void multiply_column(const std::byte* at, const std::byte* x, int64_t stride,
                                                   int v, F32 (&sum)[T][V], std::byte* decoded) {
  // What watches for specials and the sums of a whole tile leave no register for constants.
  constexpr bool kFull = W::kHasSpecials && T * V == kTileTokens * kTileVectors;
  const F32 first = W::template widen_lanes<kFull>(load_lanes(at), kColumn);
  const F32 second = W::template widen_lanes<kFull>(load_lanes(at + kLanes * 4), kColumn);
  if constexpr (kKeeps) {
    store_cells(decoded + (kColumn * V + v) * kLanes * 4, first);
    store_cells(decoded + (kColumn * V + v + 1) * kLanes * 4, second);
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t)
    add_products<kColumn * 4>(first, second, x, t * stride, sum[t][v], sum[t][v + 1]);
}

/// Several tokens where registers are few: every column is widened from memory when its turn comes, so that
/// beside the sums only two vectors of one column and one cell of x are held.
template <class W, int V, int T, From kFrom, bool kKeeps>
inline void multiply_lean(const Strip& strip, F32 (&sum)[T][V], Specials& specials) {
  const std::byte* w = strip.weights;
  const std::byte* x = strip.x;
  std::byte* decoded = strip.decoded;
  for (int64_t g = 0; g < strip.groups; ++g) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v += 2) {
      const std::byte* at = w + v * kLanes * 4;
      if (kFrom == From::kPanel && (v * kLanes * 4) % 64 == 0) prefetch_near(at + kFusedBytes<W>);
      if constexpr (W::kHasSpecials) {
        specials.see(load_lanes(at));
        specials.see(load_lanes(at + kLanes * 4));
      }
      [&]<int... kColumn>(std::integer_sequence<int, kColumn...>) __attribute__((always_inline)) {
        (multiply_column<W, V, T, kColumn, kKeeps>(at, x, strip.x_stride, v, sum, decoded), ...);
      }(std::make_integer_sequence<int, W::kCells>{});
    }
    w += kGroupBytes<V, kFrom>;
    x += W::kCells * 4;
    if constexpr (kKeeps) decoded += W::kCells * V * kLanes * 4;
  }
}

/// Several tokens: column by column, so that a widened vector serves all of them and a broadcast all rows.
template <class W, int V, int T, From kFrom>
inline void multiply_many(const Strip& strip, F32 (&sum)[T][V], Specials& specials) {
  const std::byte* w = strip.weights;
  const std::byte* x = strip.x;
  const int64_t stride = strip.x_stride;
  for (int64_t g = 0; g < strip.groups; ++g) {
    typename W::Prepared prepared[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const std::byte* at = w + v * kLanes * 4;
      if (kFrom == From::kPanel && (v * kLanes * 4) % 64 == 0) prefetch_near(at + kFusedBytes<W>);
      const I32 lanes = load_lanes(at);
      if constexpr (W::kHasSpecials) specials.see(lanes);
      prepared[v] = W::prepare(lanes);
    }
#pragma GCC unroll 4
    for (int j = 0; j < W::kCells; ++j) {
      typename W::Operand widened[V];
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) widened[v] = W::widen(prepared[v], j);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        const typename W::Operand cell = W::broadcast(x + t * stride + j * 4);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sum[t][v] = W::multiply_add(widened[v], cell, sum[t][v]);
      }
    }
    w += kGroupBytes<V, kFrom>;
    x += W::kCells * 4;
  }
}

/// V vectors of rows times T tokens, the weights widened in registers. `kKeeps`: what is widened stays in
/// strip.decoded. Not inlined: each has the registers to itself.
template <class W, int V, int T, From kFrom, bool kKeeps = false>
[[gnu::noinline]] void multiply_strip(const Strip& strip, Specials& specials) {
  F32 sum[T][V];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[t][v] = strip.resume ? load(strip.sums + t * kRows + v * kLanes) : zero();
  }
  Specials seen = specials;
  if constexpr (T == 1 && !kKeeps) {
    multiply_one<W, V, kFrom>(strip.weights, strip.x, strip.groups, sum[0], seen);
  } else if constexpr (kLanes < 16) {
    multiply_lean<W, V, T, kFrom, kKeeps>(strip, sum, seen);
  } else {
    multiply_many<W, V, T, kFrom>(strip, sum, seen);
  }
  specials = seen;
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store(strip.sums + t * kRows + v * kLanes, sum[t][v]);
  }
}

/// Decodes the strip's groups into cells that follow each other: [groups * cells of a group][V * kLanes].
template <class W, int V>
[[gnu::noinline]] void decode_strip(const std::byte* weights, int64_t groups, std::byte* cells,
                                    Specials& specials) {
  constexpr int kCells = W::kCells / W::Decoded::kCells;
  Specials seen = specials;
  for (int64_t g = 0; g < groups; ++g) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const std::byte* at = weights + v * kLanes * 4;
      if ((v * kLanes * 4) % 64 == 0) prefetch_near(at + kChunkBytes<W>);
      const I32 lanes = load_lanes(at);
      if constexpr (W::kHasSpecials) seen.see(lanes);
#pragma GCC unroll 4
      for (int j = 0; j < kCells; ++j)
        store_cells(cells + (j * V + v) * kLanes * 4, W::decoded_cell(lanes, j));
    }
    weights += kCellBytes;
    cells += kCells * V * kLanes * 4;
  }
  specials = seen;
}

/// Rows of a row-major matrix as groups of a panel, zero where there is no element.
inline void gather_groups(const PanelTask& task, int64_t first_group, int64_t groups, std::byte* into) {
  std::memset(into, 0, static_cast<size_t>(groups * kCellBytes));
  const int64_t first = first_group * 4;
  const int64_t bytes = first + groups * 4 < task.row_bytes ? groups * 4 : task.row_bytes - first;
  for (int64_t r = 0; r < task.rows; ++r) {
    const std::byte* row = task.weights + r * task.row_bytes + first;
    int64_t b = 0;
    for (; b + 4 <= bytes; b += 4) std::memcpy(into + b * kRows + r * 4, row + b, 4);
    if (b < bytes) std::memcpy(into + b * kRows + r * 4, row + b, static_cast<size_t>(bytes - b));
  }
}

/// One chunk of a segment's columns for all tokens of a task.
struct Chunk {
  const std::byte* weights;  // groups of the panel
  int64_t groups;
  const std::byte* x;
  int64_t x_stride;  // in bytes
  int64_t tokens;
  float* sums;         // [tokens, 64]
  std::byte* decoded;  // kChunkCells cells of 64 rows
  bool resume;
};

/// T tokens, the panel in strips of V vectors.
template <class W, int V, int T>
inline void multiply_fused(const Chunk& c, Specials& specials) {
  for (int64_t v = 0; v < kPanelVectors; v += V) {
    multiply_strip<W, V, T, From::kPanel>(
        {c.weights + v * kLanes * 4, c.groups, c.x, c.x_stride, c.sums + v * kLanes, c.resume, nullptr},
        specials);
  }
}

/// `count` tokens of a strip, in 1..kTileTokens.
template <class W, int T, From kFrom, bool kKeeps>
inline void multiply_tile(int64_t count, const Strip& strip, Specials& specials) {
  if (count == T) {
    multiply_strip<W, kTileVectors, T, kFrom, kKeeps>(strip, specials);
  } else if constexpr (T > 1) {
    multiply_tile<W, T - 1, kFrom, kKeeps>(count, strip, specials);
  }
}

/// Many tokens, in tiles of about equal size that go over a strip one after another; it is decoded once:
/// where registers are few by the first tile, for which most of that costs nothing beside its
/// multiplications.
template <class W>
inline void multiply_decoded(const Chunk& c, Specials& specials) {
  constexpr bool kByFirstTile = kLanes < 16;
  const int64_t tiles = (c.tokens + kTileTokens - 1) / kTileTokens;
  for (int64_t v = 0; v < kPanelVectors; v += kTileVectors) {
    const std::byte* weights = c.weights + v * kLanes * 4;
    if constexpr (!kByFirstTile) decode_strip<W, kTileVectors>(weights, c.groups, c.decoded, specials);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = c.tokens * tile / tiles;
      const int64_t count = c.tokens * (tile + 1) / tiles - begin;
      Strip strip = {c.decoded,  c.groups * W::kCells / W::Decoded::kCells, c.x + begin * c.x_stride,
                     c.x_stride, c.sums + begin * kRows + v * kLanes,       c.resume,
                     c.decoded};
      if (kByFirstTile && tile == 0) {
        strip.weights = weights;
        strip.groups = c.groups;
        multiply_tile<W, kTileTokens, From::kPanel, kByFirstTile>(count, strip, specials);
      } else {
        multiply_tile<typename W::Decoded, kTileTokens, From::kDecoded, false>(count, strip, specials);
      }
    }
  }
}

template <class W, int T>
inline void multiply_few(const Chunk& c, Specials& specials) {
  if (c.tokens == T) {
    multiply_fused<W, fused_vectors(T), T>(c, specials);
  } else if constexpr (T > 1) {
    multiply_few<W, T - 1>(c, specials);
  }
}

template <class W>
inline void multiply_chunk(const Chunk& c, Specials& specials) {
  if (c.tokens > kFusedLimit) return multiply_decoded<W>(c, specials);
  const int64_t tiles = (c.tokens + kFusedTokens - 1) / kFusedTokens;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = c.tokens * tile / tiles;
    Chunk part = c;
    part.tokens = c.tokens * (tile + 1) / tiles - begin;
    part.x += begin * c.x_stride;
    part.sums += begin * kRows;
    multiply_few<W, kFusedTokens>(part, specials);
  }
}

/// The scales of the panel's rows in one segment: [64].
inline const float* row_scales(const PanelTask& task, const MultiplySegment& segment, float* buffer) {
  if (task.row_scales != nullptr) return task.row_scales;
  for (int64_t i = 0; i < task.run_count; ++i) {
    const ScaleRun& run = task.runs[i];
    const float scale = run.scales[segment.w_scale];
    for (int32_t r = run.begin; r < run.end; ++r) buffer[r] = scale;
  }
  return buffer;
}

struct Fold {
  const float* scales;  // [64]
  const float* bias;    // [64] or null
};

/// One token: y = [before +] sums * factor * scales [+ bias]; `before` is null or may be y.
inline void fold_row(const Fold& fold, const float* sums, float factor, const PanelTask& task,
                     const float* before, float* y) {
  int64_t r = task.row_begin;
  for (; r + kLanes <= task.row_end; r += kLanes) {
    F32 value = mul(mul(load(sums + r), set1(factor)), load(fold.scales + r));
    if (before != nullptr) value = add(load(before + r), value);
    if (fold.bias != nullptr) value = add(value, load(fold.bias + r));
    store(y + r, value);
  }
  for (; r < task.row_end; ++r) {
    float value = sums[r] * factor * fold.scales[r];
    if (before != nullptr) value = before[r] + value;
    if (fold.bias != nullptr) value = value + fold.bias[r];
    y[r] = value;
  }
}

/// Token t, from a row of the panel's outputs in float32.
inline void narrow_row(const PanelTask& task, int64_t t, const float* row) {
  constexpr int64_t kBytes = 2;  // of either narrow type
  task.narrow(DType::kF32, reinterpret_cast<const std::byte*>(row + task.row_begin),
              task.row_end - task.row_begin, task.narrow_dtype,
              task.narrow_y + (t * task.y_stride + task.row_begin) * kBytes);
}

/// Adds a segment's sums to `totals` [tokens, 64], side by side as rows of y are not: these often lie a power
/// of two apart, on the same few lines of the caches. The last segment's go to y.
inline void fold_segment(const PanelTask& task, int64_t index, const float* sums, float* totals) {
  const MultiplySegment& segment = task.segments[index];
  const bool last = index + 1 == task.segment_count;
  alignas(64) float buffer[kRows];
  const Fold fold = {row_scales(task, segment, buffer), last ? task.bias : nullptr};
  for (int64_t t = 0; t < task.tokens; ++t) {
    float factor = task.up[t];
    if (task.x_scales != nullptr) factor *= task.x_scales[t * task.x_scale_stride + segment.x_scale];
    float* total = totals + t * kRows;
    float* y = !last || task.narrow_y != nullptr ? total : task.y + t * task.y_stride;
    fold_row(fold, sums + t * kRows, factor, task, index == 0 ? nullptr : total, y);
    if (last && task.narrow_y != nullptr) narrow_row(task, t, total);
  }
}

/// Groups that are worked on at a time: a single token needs no second pass over them.
template <class W>
inline int64_t chunk_groups(const PanelTask& task) {
  if (task.tokens == 1 && task.row_bytes == 0) return INT64_MAX;
  return (task.tokens <= kFusedLimit ? kFusedBytes<W> : kChunkBytes<W>) / kCellBytes;
}

template <class W>
bool multiply_panel(const PanelTask& task) {
  auto* sums = reinterpret_cast<float*>(task.scratch);
  std::byte* decoded = task.scratch + kMaxTokens * kCellBytes;
  std::byte* gathered = decoded + kChunkCells * kCellBytes;
  auto* totals = reinterpret_cast<float*>(gathered + kChunkCells * kCellBytes);
  const int64_t step = chunk_groups<W>(task);
  Specials specials;
  for (int64_t s = 0; s < task.segment_count; ++s) {
    const MultiplySegment& segment = task.segments[s];
    for (int64_t g = 0; g < segment.groups; g += step) {
      const int64_t groups = segment.groups - g < step ? segment.groups - g : step;
      const std::byte* weights = task.weights + (segment.first_group + g) * kCellBytes;
      if (task.row_bytes != 0) {
        gather_groups(task, segment.first_group + g, groups, gathered);
        weights = gathered;
      }
      multiply_chunk<W>({weights, groups, task.x + (segment.x_cell + g * W::kCells) * 4, task.x_stride * 4,
                         task.tokens, sums, decoded, g > 0},
                        specials);
    }
    fold_segment(task, s, sums, totals);
  }
  return W::kHasSpecials && specials.any(W::kLargestFinite);
}

inline void pack_f32(const float* x, int64_t count, float multiplier, float* cells) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(cells + i, mul(load(x + i), set1(multiplier)));
  for (; i < count; ++i) cells[i] = x[i] * multiplier;
}

inline void pack_f32_rounded(const float* x, int64_t count, float multiplier, float* cells) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(cells + i, mul(round_bf16(load(x + i)), set1(multiplier)));
  float rest[kLanes] = {};
  for (int64_t j = i; j < count; ++j) rest[j - i] = x[j];
  store(rest, mul(round_bf16(load(rest)), set1(multiplier)));
  for (; i < count; ++i) cells[i] = rest[i % kLanes];
}

inline float largest_magnitude(const float* x, int64_t count) {
  const F32 mask = as_float(set1(0x7fffffff));
  F32 most = zero();
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    most = max(as_float(bit_and(as_int(load(x + i)), as_int(mask))), most);
  float lanes[kLanes];
  store(lanes, most);
  float result = 0;
  for (const float lane : lanes) result = lane > result ? lane : result;
  for (; i < count; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

}  // namespace

inline constexpr MultiplyKernels kMultiplyKernels = {
    .f32 = {multiply_panel<FormatE4M3<false>>, multiply_panel<FormatE4M3<true>>,
            multiply_panel<FormatE5M2<false>>, multiply_panel<FormatE5M2<true>>, multiply_panel<FormatBF16>,
            multiply_panel<FormatF16>, multiply_panel<FormatF32>},
    .bf16 = {},
    .weight_exponent = {kE4M3Exponent, kE4M3Exponent, kE5M2Exponent, kE5M2Exponent, 0, 0, 0},
    .pack_f32 = pack_f32,
    .pack_f32_rounded = pack_f32_rounded,
    .pack_bf16 = nullptr,
    .abs_max = largest_magnitude,
};

}  // namespace octet::OCTET_ISA
