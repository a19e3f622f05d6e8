// SPDX-License-Identifier: Apache-2.0
/// The multiply by tiles of bfloat16, over the packed cells and panels of multiply_bf16-inl.h: 16 cells of 16
/// rows of a panel lie as a tile register wants them, and so do 16 cells of 16 packed rows of x.
/// What is read for many tokens lies in the order in which it is read, tile after tile: the second cache
/// gives it faster.
///
/// Every output, of one token as of many, is the sum over steps of 16 cells from the beginning of its segment
/// on, in ascending order, each step summed as the instruction does it (multiply_add_tiles); zeros fill up
/// the last step.
#pragma once

#include <type_traits>

#include "octet/backend/cpu/ask_streams-inl.h"
#include "octet/backend/cpu/multiply_bf16-inl.h"

namespace octet::OCTET_ISA {
namespace {

/// What one instruction takes of each row.
inline constexpr int64_t kStepCells = 16;
inline constexpr int64_t kStepBytes = kStepCells * kCellBytes;  // of a panel
inline constexpr int64_t kTileRows = 16;
/// Of the second cache, for packed rows of x.
inline constexpr int64_t kRowsInCache = int64_t{5} << 18;

/// Where the cells of V tiles of rows lie that W's codes become: tile after tile, but for bfloat16, which are
/// read where they are.
template <class W, int V>
struct CellTiles {
  static constexpr bool kInPlace = std::is_same_v<W, PairsBF16>;
  static constexpr int64_t kRow = kInPlace ? kCellBytes : kTileRowBytes;
  static constexpr int64_t kTile = kInPlace ? kTileRowBytes : kStepCells * kTileRowBytes;
  static constexpr int64_t kStep = kInPlace ? kStepBytes : V * kTile;
};

/// The packed rows of some tokens in tiles: the next one is rows * stride bytes behind, the next step of the
/// same one `step`.
struct TokenTiles {
  explicit TokenTiles(const PanelTask& task)
      : tokens(task.tokens),
        rows(task.tiled ? kTileRows : balanced(task.tokens)),
        row(task.tiled ? kTileRowBytes : task.x_stride * 4),
        step(task.tiled ? kTileRows * kTileRowBytes : kTileRowBytes),
        x(task.x) {}

  int64_t tokens;
  int64_t rows;  // of a tile; the last may have fewer that count
  int64_t row;   // bytes from one to the next
  int64_t step;
  const std::byte* x;

  /// The first step of a piece. In tiles all columns before it, of all rows of one, lie before it.
  [[nodiscard]] const std::byte* of(const Piece& piece) const {
    return x + (piece.x - x) * (step / kTileRowBytes);
  }

 private:
  /// Tiles of about equal size.
  static int64_t balanced(int64_t tokens) {
    const int64_t tiles = (tokens + kTileRows - 1) / kTileRows;
    return (tokens + tiles - 1) / tiles;
  }
};

/// Sums of up to 2 by 2 or 1 by 4 tiles, tokens by rows of w, in the registers 0 to 3.
template <int kTokens, int kRowTiles>
struct SumTiles {
  template <class Each>
  [[gnu::always_inline]] static void for_each(int64_t token_rows, Each&& each) {
    [&]<int... kAt>(std::integer_sequence<int, kAt...>) __attribute__((always_inline)) {
      (each.template operator()<kAt>(kAt / kRowTiles * token_rows, kAt % kRowTiles * kTileRows), ...);
    }(std::make_integer_sequence<int, kTokens * kRowTiles>{});
  }
  /// From [tokens, stride in floats], or zero where `from` is null.
  [[gnu::always_inline]] static void begin(const float* from, int64_t stride, int64_t token_rows) {
    for_each(token_rows, [&]<int kAt>(int64_t token, int64_t row) __attribute__((always_inline)) {
      if (from == nullptr) {
        zero_tile<kAt>();
      } else {
        load_tile<kAt>(from + token * stride + row, stride * 4);
      }
    });
  }
  [[gnu::always_inline]] static void keep(float* into, int64_t stride, int64_t token_rows) {
    for_each(token_rows, [&]<int kAt>(int64_t token, int64_t row) __attribute__((always_inline)) {
      store_tile<kAt>(into + token * stride + row, stride * 4);
    });
  }

  /// One step: the cells at `w`, and those of x at `x` and, of a second tile, `x_tile` bytes behind.
  template <class Cells>
  [[gnu::always_inline]] static void add(const std::byte* w, const std::byte* x, int64_t x_tile,
                                         int64_t x_row) {
    load_tile<4>(x, x_row);
    if constexpr (kTokens == 2) load_tile<5>(x + x_tile, x_row);
    [&]<int... kRow>(std::integer_sequence<int, kRow...>) __attribute__((always_inline)) {
      (add_rows<Cells, kRow>(w), ...);
    }(std::make_integer_sequence<int, kRowTiles>{});
  }

 private:
  template <class Cells, int kRow>
  [[gnu::always_inline]] static void add_rows(const std::byte* w) {
    constexpr int kW = 6 + kRow % 2;
    load_tile<kW>(w + kRow * Cells::kTile, Cells::kRow);
    multiply_add_tiles<kRow, 4, kW>();
    if constexpr (kTokens == 2) multiply_add_tiles<kRowTiles + kRow, 5, kW>();
  }
};

/// The groups of a step, V tiles of rows, as cells at `into`; zeros behind those that are not there. `asks`:
/// for what is needed later.
template <class W, int V>
[[gnu::always_inline]] inline void decode_step(const std::byte* weights, int64_t groups, bool asks,
                                               std::byte* into) {
  using Cells = CellTiles<W, V>;
  for (int64_t g = 0; g < groups; ++g) {
    if (asks) ask_in_streams(weights + g * kCellBytes);
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const std::byte* at = weights + g * kCellBytes + v * kTileRowBytes;
      const I32 lanes = load_lanes(at);
#pragma GCC unroll 4
      for (int j = 0; j < W::kCells; ++j)
        store_cells(into + (g * W::kCells + j) * Cells::kRow + v * Cells::kTile, W::decoded_cell(lanes, j));
    }
  }
  for (int64_t cell = groups * W::kCells; cell < kStepCells; ++cell) {
    for (int v = 0; v < V; ++v) std::memset(into + cell * Cells::kRow + v * Cells::kTile, 0, kTileRowBytes);
  }
}

/// Where the cells of a step lie, V tiles of rows: bfloat16 in the panel itself, but for a last step that has
/// to be filled up.
template <class W, int V>
[[gnu::always_inline]] inline const std::byte* cells_of_step(const std::byte* weights, int64_t groups,
                                                             bool asks, std::byte* spare) {
  if constexpr (CellTiles<W, V>::kInPlace) {
    if (groups == kStepCells) {
      if (asks) {
#pragma GCC unroll 16
        for (int64_t g = 0; g < kStepCells; ++g) ask_in_streams(weights + g * kCellBytes);
      }
      return weights;
    }
  }
  decode_step<W, V>(weights, groups, asks, spare);
  return spare;
}

/// The sums of a piece are complete: from the registers to where they go.
template <int kTokens, int kRowTiles>
[[gnu::always_inline]] inline void fold_tiles(const Fold& fold, const TokenTiles& tiles, int64_t token,
                                              int64_t row) {
  constexpr int64_t kColumns = kRowTiles * kTileRows;
  alignas(64) float sums[kTokens * kTileRows * kColumns];
  SumTiles<kTokens, kRowTiles>::keep(sums, kColumns, tiles.rows);
  const int64_t left = tiles.tokens - token;
  const int64_t count = left < kTokens * tiles.rows ? left : kTokens * tiles.rows;
  for (int64_t t = 0; t < count; ++t) {
    F32 sum[1][kRowTiles];
#pragma GCC unroll 4
    for (int v = 0; v < kRowTiles; ++v) sum[0][v] = load(sums + t * kColumns + v * kLanes);
    if (!fold.stream) {
      fold_sums<kRowTiles, 1>(fold, token + t, row, sum);
      continue;
    }
    scale_sums<kRowTiles, 1>(fold, token + t, row, sum);
    float* into = fold.into + (token + t) * fold.into_stride + row;
#pragma GCC unroll 4
    for (int v = 0; v < kRowTiles; ++v) stream_lanes(into + v * kLanes, as_int(sum[0][v]));
  }
}

/// Few tokens: each step is decoded just before it is multiplied with, beside the multiplications of the one
/// before, so that the memory never waits.
template <class W, int kTokens, int kRowTiles>
[[gnu::noinline]] void multiply_few_by_tiles(const Chunk& c, const Piece& piece, const TokenTiles& tiles) {
  using Sums = SumTiles<kTokens, kRowTiles>;
  constexpr int64_t kGroups = kStepCells / W::kCells;
  for (int64_t row = 0; row < kRows; row += kRowTiles * kTileRows) {
    const std::byte* weights = piece.weights + row * 4;
    const std::byte* x = tiles.of(piece);
    float* sums = c.sums + row;
    Sums::begin(piece.resume ? sums : nullptr, kRows, tiles.rows);
    int64_t left = piece.groups;
    std::byte* spare = c.decoded;
    std::byte* other = c.decoded + kStepBytes;
    const auto next = [&]() __attribute__((always_inline)) {
      const int64_t groups = left < kGroups ? left : kGroups;
      // The first pass over the groups asks for all of their lines.
      const std::byte* cells = cells_of_step<W, kRowTiles>(weights, groups, row == 0, spare);
      std::swap(spare, other);
      weights += groups * kCellBytes;
      left -= groups;
      return cells;
    };
    if (left > 0) {
      for (const std::byte* cells = next(); cells != nullptr; x += tiles.step) {
        const std::byte* after = left > 0 ? next() : nullptr;
        Sums::template add<CellTiles<W, kRowTiles>>(cells, x, tiles.rows * c.x_stride, tiles.row);
        cells = after;
      }
    }
    if (piece.fold != nullptr) {
      fold_tiles<kTokens, kRowTiles>(*piece.fold, tiles, 0, row);
    } else {
      Sums::keep(sums, kRows, tiles.rows);
    }
  }
}

/// The steps of a piece: where each begins is cells + step * CellTiles::kStep, but for the last.
struct Steps {
  const std::byte* cells;
  int64_t count;
  const std::byte* last;
};
template <class W>
inline Steps steps_of(const Chunk& c, const Piece& piece) {
  constexpr int64_t kGroups = kStepCells / W::kCells;
  Steps steps = {.cells = nullptr, .count = 0, .last = nullptr};
  std::byte* decoded = c.decoded + piece.begin * W::kCells * kCellBytes;
  for (int64_t g = 0; g < piece.groups; g += kGroups, ++steps.count, decoded += kStepBytes) {
    const int64_t left = piece.groups - g;
    steps.last = cells_of_step<W, kRows / kTileRows>(piece.weights + g * kCellBytes,
                                                     left < kGroups ? left : kGroups, true, decoded);
    if (g == 0) steps.cells = steps.last;
  }
  return steps;
}

/// The weights behind a chunk, most often those of the next one: some lines are asked for beside each step of
/// multiplications, which take far longer than the memory.
struct NextWeights {
  const std::byte* line;
  int64_t lines;  // beside a step

  [[gnu::always_inline]] void ask() {
    for (int64_t i = 0; i < lines; ++i, line += kTileRowBytes) prefetch_near(line);
  }
};
template <class W>
inline NextWeights weights_behind(const Chunk& c, const TokenTiles& tiles) {
  constexpr int64_t kLines = kStepBytes / W::kCells / kTileRowBytes;  // of a step's groups
  const Piece& last = c.pieces[c.count - 1];
  const int64_t times =
      (tiles.tokens + 2 * tiles.rows - 1) / (2 * tiles.rows) * 2;  // that a step is multiplied
  return {.line = last.weights + last.groups * kCellBytes, .lines = (kLines + times - 1) / times};
}

/// Two tiles of tokens by two of rows or one by four, one piece.
template <class W, int kTokens, int kRowTiles>
[[gnu::noinline]] void multiply_outputs(const Chunk& c, const Piece& piece, const Steps& steps,
                                        const TokenTiles& tiles, int64_t token, int64_t row,
                                        NextWeights& next) {
  using Sums = SumTiles<kTokens, kRowTiles>;
  using Cells = CellTiles<W, kRows / kTileRows>;
  float* sums = c.sums + token * kRows + row;
  Sums::begin(piece.resume ? sums : nullptr, kRows, tiles.rows);
  const std::byte* x = tiles.of(piece) + token * c.x_stride;
  for (int64_t s = 0; s < steps.count; ++s, x += tiles.step) {
    const std::byte* cells = s + 1 < steps.count ? steps.cells + s * Cells::kStep : steps.last;
    Sums::template add<Cells>(cells + row / kTileRows * Cells::kTile, x, tiles.rows * c.x_stride, tiles.row);
    next.ask();
  }
  if (piece.fold != nullptr) return fold_tiles<kTokens, kRowTiles>(*piece.fold, tiles, token, row);
  Sums::keep(sums, kRows, tiles.rows);
}

/// Many tokens: chunk by chunk, each decoded once for all of them.
template <class W>
inline void multiply_chunks_by_tiles(const PanelTask& task, const Outputs& outputs, const TokenTiles& tiles) {
  const int64_t cells = task.row_bytes == 0 ? kTileChunkCells : kChunkCells;
  Chunks<W> chunks(task, outputs, {.groups = cells / W::kCells, .whole = kStepCells / W::kCells});
  Chunk c;
  while (chunks.next(c)) {
    Steps steps[kMaxPieces];
    for (int64_t p = 0; p < c.count; ++p) steps[p] = steps_of<W>(c, c.pieces[p]);
    NextWeights next = weights_behind<W>(c, tiles);
    int64_t token = 0;
    for (; token + tiles.rows < c.tokens; token += 2 * tiles.rows) {
      for (int64_t row = 0; row < kRows; row += 2 * kTileRows) {
        for (int64_t p = 0; p < c.count; ++p)
          multiply_outputs<W, 2, 2>(c, c.pieces[p], steps[p], tiles, token, row, next);
      }
    }
    if (token >= c.tokens) continue;
    for (int64_t p = 0; p < c.count; ++p)
      multiply_outputs<W, 1, 4>(c, c.pieces[p], steps[p], tiles, token, 0, next);
  }
}

/// Few tokens: step by step.
template <class W>
inline void multiply_steps_by_tiles(const PanelTask& task, const Outputs& outputs, const TokenTiles& tiles) {
  Chunks<W> chunks(
      task, outputs,
      {.groups = task.row_bytes == 0 ? INT64_MAX : kChunkCells, .whole = kStepCells / W::kCells});
  Chunk chunk;
  while (chunks.next(chunk)) {
    for (const Piece* piece = chunk.pieces; piece < chunk.pieces + chunk.count; ++piece) {
      if (task.tokens <= kTileRows) {
        multiply_few_by_tiles<W, 1, 4>(chunk, *piece, tiles);
      } else {
        multiply_few_by_tiles<W, 2, 2>(chunk, *piece, tiles);
      }
    }
  }
}

template <class W>
bool multiply_panel_by_tiles(const PanelTask& task) {
  const TokenTiles tiles(task);
  const Outputs outputs(task, kMaxTokens);
  configure_tiles(static_cast<int>(tiles.rows));
  if (task.tokens <= 2 * kTileRows) {
    multiply_steps_by_tiles<W>(task, outputs, tiles);
  } else {
    multiply_chunks_by_tiles<W>(task, outputs, tiles);
  }
  release_tiles();
  outputs.finish();
  return false;
}

constexpr MultiplyKernels with_tiles(MultiplyKernels kernels) {
  for (const WeightFormat e4m3 : {WeightFormat::kE4M3, WeightFormat::kE4M3Finite})
    kernels.bf16[static_cast<int>(e4m3)] = multiply_panel_by_tiles<PairsE4M3>;
  for (const WeightFormat e5m2 : {WeightFormat::kE5M2, WeightFormat::kE5M2Finite})
    kernels.bf16[static_cast<int>(e5m2)] = multiply_panel_by_tiles<PairsE5M2>;
  kernels.bf16[static_cast<int>(WeightFormat::kBF16)] = multiply_panel_by_tiles<PairsBF16>;
  kernels.bf16_rows = {.step_cells = kStepCells,
                       .beyond = kTileRows - 1,
                       .whole_tokens = 2 * kTileRows,
                       .block_bytes = kRowsInCache,
                       .spread_lines = 8,
                       .tile_rows = kTileRows};
  kernels.chunk_cells = kTileChunkCells;
  return kernels;
}

}  // namespace

inline constexpr MultiplyKernels kMultiplyKernelsAmx = with_tiles(kMultiplyKernelsBf16);

}  // namespace octet::OCTET_ISA
