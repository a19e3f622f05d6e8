// SPDX-License-Identifier: Apache-2.0
/// What octet/backend/cpu/tiles_amx.h has, computed in plain loops: for machines without AMX.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/backend/cpu/emulated_bf16.h"

namespace octet::OCTET_ISA {

inline constexpr int64_t kTileRowBytes = 64;

struct EmulatedTiles {
  int rows = 0;                                                     // of sums and of x
  std::array<std::array<std::array<uint32_t, 16>, 16>, 8> lanes{};  // [register][row]
  [[nodiscard]] int rows_of(int tile) const { return tile < 6 ? rows : 16; }
};
inline thread_local EmulatedTiles tiles_of_thread;

inline void configure_tiles(int rows) {
  tiles_of_thread = {};
  tiles_of_thread.rows = rows;
}
inline void release_tiles() {
  tiles_of_thread.rows = 0;
}

template <int kTile>
inline void zero_tile() {
  tiles_of_thread.lanes[kTile] = {};
}
template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
  for (int row = 0; row < tiles_of_thread.rows_of(kTile); ++row)
    std::memcpy(tiles_of_thread.lanes[kTile][static_cast<size_t>(row)].data(),
                static_cast<const std::byte*>(from) + row * stride, kTileRowBytes);
}
template <int kTile>
inline void store_tile(void* into, int64_t stride) {
  for (int row = 0; row < tiles_of_thread.rows_of(kTile); ++row)
    std::memcpy(static_cast<std::byte*>(into) + row * stride,
                tiles_of_thread.lanes[kTile][static_cast<size_t>(row)].data(), kTileRowBytes);
}

/// As Intel's manual has TDPBF16PS.
template <int kSums, int kX, int kW>
inline void multiply_add_tiles() {
  auto& lanes = tiles_of_thread.lanes;
  for (size_t m = 0; m < static_cast<size_t>(tiles_of_thread.rows); ++m) {
    for (size_t n = 0; n < 16; ++n) {
      float sums[2] = {0, 0};
      for (size_t k = 0; k < 16; ++k) {
        for (int half = 0; half < 2; ++half)
          sums[half] = emulated::flush(std::fma(emulated::bf16_half(lanes[kX][m][k], half),
                                                emulated::bf16_half(lanes[kW][k][n], half), sums[half]));
      }
      const float before = emulated::flush(std::bit_cast<float>(lanes[kSums][m][n]));
      lanes[kSums][m][n] =
          std::bit_cast<uint32_t>(emulated::flush(before + emulated::flush(sums[0] + sums[1])));
    }
  }
}

}  // namespace octet::OCTET_ISA
