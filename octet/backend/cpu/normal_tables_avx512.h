// SPDX-License-Identifier: Apache-2.0
/// The codes of normal_codes-inl.h by two look-ups in 128 bytes each, for AVX-512 with VBMI.
#pragma once

#include "octet/backend/cpu/lanes_avx512.h"
#include "octet/backend/cpu/normal_lanes-inl.h"

namespace octet::OCTET_ISA::lanes {

/// The upper and the lower bytes of bfloat16, for codes without their signs.
template <int kMantissa>
struct NormalTables {
  alignas(64) uint8_t upper[128] = {};
  alignas(64) uint8_t lower[128] = {};

  constexpr NormalTables() {
    using Addends = NormalAddends<kMantissa>;
    for (int c = 0; c < 128; ++c) {
      const int bits = (c + kNormalAddends<kMantissa>.of[c < Addends::kLeast ? c : Addends::kLeast])
                       << kHalfPlace<kMantissa>;
      upper[c] = static_cast<uint8_t>(bits >> 8);
      lower[c] = static_cast<uint8_t>(bits);
    }
  }
};
template <int kMantissa>
inline constexpr NormalTables<kMantissa> kNormalTables;

/// As DecodedBySteps, in half as many instructions.
struct DecodedByTables {
  template <int kMantissa>
  [[gnu::always_inline]] static NormalHalves halves(Bytes codes) {
    const auto packed = (__m512i)pairs_of_fours(codes);
    const auto look_up = [packed](const uint8_t* table) __attribute__((always_inline)) {
      return _mm512_permutex2var_epi8(_mm512_load_si512(table), packed, _mm512_load_si512(table + 64));
    };
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const __m512i lower = look_up(kNormalTables<kMantissa>.lower);
    const __m512i upper =
        _mm512_ternarylogic_epi32(look_up(kNormalTables<kMantissa>.upper), packed, sign, 0xf8);
    return {(Halves)_mm512_unpacklo_epi8(lower, upper), (Halves)_mm512_unpackhi_epi8(lower, upper)};
  }
};

}  // namespace octet::OCTET_ISA::lanes
