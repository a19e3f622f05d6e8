// SPDX-License-Identifier: Apache-2.0
/// The multiply, written once over simd_<isa>.h. Included by kernels_<isa>.cpp after it.
///
/// Every output is summed over k in ascending order in one float32 accumulator, whichever of the loops below
/// computes it; where they stop between chunks of columns the accumulators are stored and loaded again, which
/// changes no bit.
#pragma once

#include <utility>

#include "octet/backend/cpu/ask_streams-inl.h"
#include "octet/backend/cpu/multiply_chunks-inl.h"
#include "octet/backend/cpu/multiply_formats-inl.h"
#include "octet/backend/cpu/multiply_kernels.h"

namespace octet::OCTET_ISA {
namespace {

/// What a tile's loop over columns works on.
struct Run {
  const std::byte* weights;  // the strip's part of the first group
  int64_t groups;
  const std::byte* x;  // cells of the first token
  int64_t x_stride;    // in bytes
  std::byte* decoded;  // where cells that are widened stay, for the tiles after this one
};

/// Where a strip's weights lie: in the panel, or widened in Chunk::decoded, which holds the strip alone.
enum class From { kPanel, kDecoded };
/// The distance between the groups of a strip of V vectors.
template <int V, From kFrom>
inline constexpr int64_t kGroupBytes = kFrom == From::kPanel ? kCellBytes : V * kLanes * 4;

/// One token: group by group, the vectors of rows one after another, the group's cells of x in registers.
/// `kStreams`: see ask_streams-inl.h.
template <class W, int V, From kFrom, bool kStreams>
[[gnu::always_inline]] inline void multiply_one(Run run, F32 (&sum)[V], Specials& specials) {
  for (int64_t g = 0; g < run.groups; ++g) {
    if constexpr (kStreams) ask_in_streams(run.weights);
    typename W::Operand cells[W::kCells];
#pragma GCC unroll 4
    for (int j = 0; j < W::kCells; ++j) cells[j] = W::broadcast(run.x + j * 4);
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const std::byte* at = run.weights + v * kLanes * 4;
      if (!kStreams && (v * kLanes * 4) % 64 == 0) prefetch(at + kPrefetchBytes);
      const I32 lanes = load_lanes(at);
      if constexpr (W::kHasSpecials) specials.see(lanes);
      const typename W::Prepared prepared = W::prepare(lanes);
#pragma GCC unroll 4
      for (int j = 0; j < W::kCells; ++j) sum[v] = W::multiply_add(W::widen(prepared, j), cells[j], sum[v]);
    }
    run.weights += kGroupBytes<V, kFrom>;
    run.x += W::kCells * 4;
  }
}

/// A vector of weights in memory: as it is stored, or prepared where W is to keep that.
template <class W>
struct LeanSource {
  const std::byte* at;
  template <bool kInMemory>
  [[gnu::always_inline]] F32 widened(int column) {
    return W::template widen_lanes<kInMemory>(load_lanes(at), column);
  }
};
template <class W>
  requires W::kKeepsPrepared
struct LeanSource<W> {
  typename W::Prepared prepared;
  [[gnu::always_inline]] explicit LeanSource(const std::byte* at) : prepared(W::prepare(load_lanes(at))) {}
  template <bool kInMemory>
  [[gnu::always_inline]] F32 widened(int column) {
    asm("" : "+m"(prepared));  // loaded anew for each column
    return W::template widen<kInMemory>(prepared, column);
  }
};

/// One column of the vectors of rows v and v + 1, widened from memory, for T tokens.
template <class W, int V, int T, int kColumn, bool kKeeps>
[[gnu::always_inline]] inline void multiply_column(LeanSource<W> (&w)[2], const std::byte* x, int64_t stride,
                                                   int v, F32 (&sum)[T][V], std::byte* decoded) {
  // What watches for specials and the sums of a whole tile leave no register for constants.
  constexpr bool kFull = W::kHasSpecials && T * V == kTileTokens * kTileVectors;
  const F32 first = w[0].template widened<kFull>(kColumn);
  const F32 second = w[1].template widened<kFull>(kColumn);
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
[[gnu::always_inline]] inline void multiply_lean(Run run, F32 (&sum)[T][V], Specials& specials) {
  for (int64_t g = 0; g < run.groups; ++g) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v += 2) {
      const std::byte* at = run.weights + v * kLanes * 4;
      if (kFrom == From::kPanel && (v * kLanes * 4) % 64 == 0) prefetch_near(at + kFusedBytes<W>);
      if constexpr (W::kHasSpecials) {
        specials.see(load_lanes(at));
        specials.see(load_lanes(at + kLanes * 4));
      }
      LeanSource<W> w[2] = {LeanSource<W>{at}, LeanSource<W>{at + kLanes * 4}};
      [&]<int... kColumn>(std::integer_sequence<int, kColumn...>) __attribute__((always_inline)) {
        (multiply_column<W, V, T, kColumn, kKeeps>(w, run.x, run.x_stride, v, sum, run.decoded), ...);
      }(std::make_integer_sequence<int, W::kCells>{});
    }
    run.weights += kGroupBytes<V, kFrom>;
    run.x += W::kCells * 4;
    if constexpr (kKeeps) run.decoded += W::kCells * V * kLanes * 4;
  }
}

/// Several tokens: column by column, so that a widened vector serves all of them and a broadcast all rows.
template <class W, int V, int T, From kFrom>
[[gnu::always_inline]] inline void multiply_many(Run run, F32 (&sum)[T][V], Specials& specials) {
  for (int64_t g = 0; g < run.groups; ++g) {
    typename W::Prepared prepared[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const std::byte* at = run.weights + v * kLanes * 4;
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
        const typename W::Operand cell = W::broadcast(run.x + t * run.x_stride + j * 4);
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sum[t][v] = W::multiply_add(widened[v], cell, sum[t][v]);
      }
    }
    run.weights += kGroupBytes<V, kFrom>;
    run.x += W::kCells * 4;
  }
}

/// The tiles of T tokens by V vectors of rows in a part of a chunk.
struct Part {
  int64_t token;
  int64_t token_end;
  int64_t row;
  int64_t row_end;
};

/// Tile by tile, and in each piece by piece, the weights widened in registers. `kKeeps`: what is widened
/// stays in chunk.decoded, a group becoming `kSpread` of them. Not inlined: each has the registers to itself.
template <class W, int V, int T, From kFrom, bool kKeeps = false,
          int kSpread = W::kCells / W::Decoded::kCells>
[[gnu::noinline]] void multiply_tiles(const Chunk& c, const Part& part, Specials& specials) {
  constexpr bool kPanel = kFrom == From::kPanel;
  Specials seen;
  if constexpr (W::kHasSpecials) seen = specials;
  for (int64_t token = part.token; token < part.token_end; token += T) {
    for (int64_t row = part.row; row < part.row_end; row += V * kLanes) {
      for (const Piece* piece = c.pieces; piece < c.pieces + c.count; ++piece) {
        std::byte* decoded = c.decoded + piece->begin * kSpread * V * kLanes * 4;
        const Run run = {.weights = kPanel ? piece->weights + row * 4 : decoded,
                         .groups = kPanel ? piece->groups : piece->groups * kSpread,
                         .x = piece->x + token * c.x_stride,
                         .x_stride = c.x_stride,
                         .decoded = decoded};
        F32 sum[T][V];
        begin_sums<V, T>(piece->resume ? c.sums + token * kRows + row : nullptr, sum);
        if constexpr (T == 1 && !kKeeps) {
          constexpr bool kWholeGroups = kPanel && V * kLanes * 4 == kCellBytes;
          if (kWholeGroups && c.streams) {
            multiply_one<W, V, kFrom, kWholeGroups>(run, sum[0], seen);
          } else {
            multiply_one<W, V, kFrom, false>(run, sum[0], seen);
          }
        } else if constexpr (kLanes < 16) {
          multiply_lean<W, V, T, kFrom, kKeeps>(run, sum, seen);
        } else {
          multiply_many<W, V, T, kFrom>(run, sum, seen);
        }
        if (piece->fold != nullptr) {
          fold_sums<V, T>(*piece->fold, token, row, sum);
        } else {
          keep_sums<V, T>(sum, c.sums + token * kRows + row);
        }
      }
    }
  }
  if constexpr (W::kHasSpecials) specials = seen;
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

/// Tiles of `size` tokens, in 1..T, of a strip that has been decoded, or that the only one of them decodes.
template <class W, int T, From kFrom>
inline void multiply_strip(const Chunk& c, int64_t size, const Part& part, Specials& specials) {
  if (size == T) {
    if constexpr (kFrom == From::kPanel) {
      multiply_tiles<W, kTileVectors, T, kFrom, true>(c, part, specials);
    } else {
      constexpr int kSpread = W::kCells / W::Decoded::kCells;
      multiply_tiles<typename W::Decoded, kTileVectors, T, kFrom, false, kSpread>(c, part, specials);
    }
  } else if constexpr (T > 1) {
    multiply_strip<W, T - 1, kFrom>(c, size, part, specials);
  }
}

/// Many tokens, in tiles of about equal size that go over a strip one after another, smaller ones first; it
/// is decoded once: where registers are few by the first tile, for which most of that costs nothing beside
/// its multiplications.
template <class W>
inline void multiply_decoded(const Chunk& c, Specials& specials) {
  constexpr bool kByFirstTile = kLanes < 16;
  constexpr int64_t kStripRows = kTileVectors * kLanes;
  constexpr int64_t kSpread = W::kCells / W::Decoded::kCells * kStripRows * 4;
  const int64_t tiles = (c.tokens + kTileTokens - 1) / kTileTokens;
  const int64_t size = c.tokens / tiles;
  const int64_t smaller = size * (tiles - c.tokens % tiles);  // tokens in tiles of that size
  for (int64_t row = 0; row < kRows; row += kStripRows) {
    Part part = {.token = 0, .token_end = smaller, .row = row, .row_end = row + kStripRows};
    if constexpr (kByFirstTile) {
      part.token_end = size;
      multiply_strip<W, kTileTokens, From::kPanel>(c, size, part, specials);
      part = {.token = size, .token_end = smaller, .row = row, .row_end = row + kStripRows};
    } else {
      for (const Piece* p = c.pieces; p < c.pieces + c.count; ++p)
        decode_strip<W, kTileVectors>(p->weights + row * 4, p->groups, c.decoded + p->begin * kSpread,
                                      specials);
    }
    multiply_strip<W, kTileTokens, From::kDecoded>(c, size, part, specials);
    part.token = smaller;
    part.token_end = c.tokens;
    multiply_strip<W, kTileTokens, From::kDecoded>(c, size + 1, part, specials);
  }
}

/// Tiles of `size` tokens, in 1..T, the panel in strips of as many vectors as suit them.
template <class W, int T>
inline void multiply_few(const Chunk& c, int64_t size, const Part& part, Specials& specials) {
  if (size == T) {
    multiply_tiles<W, fused_vectors(T), T, From::kPanel>(c, part, specials);
  } else if constexpr (T > 1) {
    multiply_few<W, T - 1>(c, size, part, specials);
  }
}

template <class W>
inline void multiply_chunk(const Chunk& c, Specials& specials) {
  if (c.tokens > kFusedLimit) return multiply_decoded<W>(c, specials);
  const int64_t tiles = (c.tokens + kFusedTokens - 1) / kFusedTokens;
  const int64_t size = (c.tokens + tiles - 1) / tiles;
  const int64_t larger = size * (c.tokens - (size - 1) * tiles);
  multiply_few<W, kFusedTokens>(c, size, {.token = 0, .token_end = larger, .row = 0, .row_end = kRows},
                                specials);
  if (larger < c.tokens)
    multiply_few<W, kFusedTokens>(
        c, size - 1, {.token = larger, .token_end = c.tokens, .row = 0, .row_end = kRows}, specials);
}

template <class W>
bool multiply_panel(const PanelTask& task) {
  const Outputs outputs(task);
  Chunks<W> chunks(task, outputs, {.groups = chunk_groups<W>(task)});
  Specials specials;
  Chunk chunk;
  while (chunks.next(chunk)) multiply_chunk<W>(chunk, specials);
  outputs.finish();
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
    .f32 = {.panel = {multiply_panel<FormatE4M3<false>>, multiply_panel<FormatE4M3<true>>,
                      multiply_panel<FormatE5M2<false>>, multiply_panel<FormatE5M2<true>>,
                      multiply_panel<FormatBF16>, multiply_panel<FormatF16>, multiply_panel<FormatF32>},
            .weight_exponent = {kE4M3Exponent, kE4M3Exponent, kE5M2Exponent, kE5M2Exponent, 0, 0, 0}},
    .bf16 = {},
    .pack_f32 = pack_f32,
    .pack_f32_rounded = pack_f32_rounded,
    .pack_bf16 = nullptr,
    .abs_max = largest_magnitude,
};

/// No operand made from FP8 is subnormal. E5M2 has one kernel for either of its formats.
constexpr FloatPanels without_subnormals(FloatPanels panels) {
  constexpr int kE4M3 = kE4M3Exponent - kMoreExponent<3>;
  constexpr int kE5M2 = kE5M2Exponent - kMoreExponent<2>;
  const auto set = [&](WeightFormat format, PanelKernel panel, int weight_exponent) {
    panels.panel[static_cast<int>(format)] = panel;
    panels.weight_exponent[static_cast<int>(format)] = weight_exponent;
  };
  set(WeightFormat::kE4M3, multiply_panel<FormatNormalE4M3<false>>, kE4M3);
  set(WeightFormat::kE4M3Finite, multiply_panel<FormatNormalE4M3<true>>, kE4M3);
  set(WeightFormat::kE5M2, multiply_panel<FormatNormalE5M2<false>>, kE5M2);
  set(WeightFormat::kE5M2Finite, multiply_panel<FormatNormalE5M2<false>>, kE5M2);
  return panels;
}
inline constexpr FloatPanels kNormalPanels = without_subnormals(kMultiplyKernels.f32);

}  // namespace octet::OCTET_ISA
