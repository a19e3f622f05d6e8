// SPDX-License-Identifier: Apache-2.0
/// The peak of the products of bfloat16 tiles, alone and with what they read. Included by
/// kernels_amx_bf16.cpp after tiles_amx.h.
#pragma once

#include "octet/backend/cpu/ceiling-inl.h"

namespace octet::OCTET_ISA {
namespace {

inline constexpr int64_t kRowsOfTile = 16;
inline constexpr int64_t kFlopsOfTiles = kRowsOfTile * 16 * 32 * 2;

inline int64_t multiply_tiles_of_bf16(int64_t rounds, float* sink) {
  alignas(64) float tile[kRowsOfTile * 16];
  for (float& each : tile) each = sink[1];
  configure_tiles(kRowsOfTile);
  load_tile<4>(tile, kTileRowBytes);
  load_tile<5>(tile, kTileRowBytes);
  load_tile<6>(tile, kTileRowBytes);
  load_tile<7>(tile, kTileRowBytes);
  for (int64_t i = 0; i < rounds; ++i) {
    multiply_add_tiles<0, 4, 6>();
    multiply_add_tiles<1, 5, 6>();
    multiply_add_tiles<2, 4, 7>();
    multiply_add_tiles<3, 5, 7>();
  }
  store_tile<0>(tile, kTileRowBytes);
  release_tiles();
  sink[0] += tile[0];
  return rounds * 4 * kFlopsOfTiles;
}

/// Operands in the order in which multiply_amx-inl.h reads them: two tiles of tokens, two of rows, step by
/// step. Each round takes four steps, so that clearing the tiles does not count.
inline int64_t multiply_read_tiles_of_bf16(int64_t rounds, float* sink) {
  constexpr int kSteps = 64;
  constexpr int64_t kTileBytes = kRowsOfTile * kTileRowBytes;
  struct alignas(64) Step {
    std::byte tiles[4 * kTileBytes] = {};
  };
  alignas(64) Step steps[kSteps] = {};  // 256 KiB
  alignas(64) float tile[kRowsOfTile * 16];
  configure_tiles(kRowsOfTile);
  for (int64_t i = 0; i < 4 * rounds; ++i) {
    const std::byte* at = steps[i % kSteps].tiles;
    load_tile<4>(at, kTileRowBytes);
    load_tile<5>(at + kTileBytes, kTileRowBytes);
    load_tile<6>(at + 2 * kTileBytes, kTileRowBytes);
    multiply_add_tiles<0, 4, 6>();
    multiply_add_tiles<1, 5, 6>();
    load_tile<7>(at + 3 * kTileBytes, kTileRowBytes);
    multiply_add_tiles<2, 4, 7>();
    multiply_add_tiles<3, 5, 7>();
  }
  store_tile<0>(tile, kTileRowBytes);
  release_tiles();
  sink[0] += tile[0];
  return rounds * 4 * 4 * kFlopsOfTiles;
}

}  // namespace

inline constexpr CeilingKernels kCeilingKernelsAmx = {.read = read_all<false>,
                                                      .read_streams = read_all<true>,
                                                      .copy = copy_all,
                                                      .f32_multiply = multiply_f32,
                                                      .bf16_multiply = multiply_tiles_of_bf16,
                                                      .bf16_multiply_read = multiply_read_tiles_of_bf16};

}  // namespace octet::OCTET_ISA
