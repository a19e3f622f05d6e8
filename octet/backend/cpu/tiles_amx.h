// SPDX-License-Identifier: Apache-2.0
/// The eight tile registers of AMX and the products of bfloat16 tiles, as instructions: compilers' intrinsics
/// for them do not say which memory they touch. Each thread has registers of its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA {

/// Bytes of a row of a tile: 16 float32, or 16 pairs of bfloat16.
inline constexpr int64_t kTileRowBytes = 64;

/// Sums (registers 0 to 3) and operands of x (4, 5) of `rows` rows, 1 to 16; of w (6, 7) of 16. All become
/// zero.
inline void configure_tiles(int rows) {
  struct alignas(64) {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.row_bytes[i] = kTileRowBytes;
    shapes.rows[i] = static_cast<uint8_t>(i < 6 ? rows : 16);
  }
  asm volatile("ldtilecfg %0" : : "m"(shapes));
}
/// Until the next configuration the system has no tiles to save when threads change.
inline void release_tiles() {
  asm volatile("tilerelease");
}

template <int kTile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
/// `stride` in bytes.
template <int kTile>
[[gnu::always_inline]] inline void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store_tile(void* into, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(into), "r"(stride), "i"(kTile) : "memory");
}
/// sums[m, n] += the sum over k of x[m, 2k] * w[k, 2n] and, apart from it, of x[m, 2k + 1] * w[k, 2n + 1],
/// both fused and in ascending order, then added to each other. Subnormal operands and results count as zero.
template <int kSums, int kX, int kW>
[[gnu::always_inline]] inline void multiply_add_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kX), "i"(kW));
}

}  // namespace octet::OCTET_ISA
