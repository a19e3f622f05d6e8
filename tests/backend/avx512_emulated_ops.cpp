// SPDX-License-Identifier: Apache-2.0
/// The AVX-512 kernels of loading, of a step and of attention, compiled for machines without AVX-512: SIMDe
/// computes what the instructions would. OCTET_ISA and SIMDE_ENABLE_NATIVE_ALIASES are defined by CMake.
#include "tests/backend/avx512_emulated_ops.h"

#include <immintrin.h>
// The real header first, so that the aliases below do not rewrite it.
#include <simde/x86/avx512.h>

#include "octet/core/bfloat16.h"

namespace octet::emulated {

template <class To, class From, int kCount>
inline auto convert_lanes(const void* from) {
  From in[kCount];
  std::memcpy(in, from, sizeof(in));
  std::array<To, kCount> out;
  for (int i = 0; i < kCount; ++i) out[static_cast<size_t>(i)] = static_cast<To>(in[i]);
  return out;
}
template <class Vector, class To, class From, int kCount, class Source>
inline Vector convert_vector(Source v) {
  const auto lanes = convert_lanes<To, From, kCount>(&v);
  Vector result;
  static_assert(sizeof(result) == sizeof(lanes));
  std::memcpy(&result, &lanes, sizeof(result));
  return result;
}

inline __m512 halves_to_floats(__m256i v) {
  uint16_t in[16];
  float out[16];
  std::memcpy(in, &v, sizeof(in));
  for (int i = 0; i < 16; ++i) out[i] = to_float(float16{in[i]});
  __m512 result;
  std::memcpy(&result, out, sizeof(out));
  return result;
}
inline __m256i floats_to_halves(__m512 v) {
  float in[16];
  uint16_t out[16];
  std::memcpy(in, &v, sizeof(in));
  for (int i = 0; i < 16; ++i) out[i] = to_float16(in[i]).bits;
  __m256i result;
  std::memcpy(&result, out, sizeof(out));
  return result;
}

}  // namespace octet::emulated

// What SIMDe lacks.
#define _mm512_cvtps_pd(v) (octet::emulated::convert_vector<__m512d, double, float, 8>(v))
#define _mm512_cvtepu16_epi32(v) (octet::emulated::convert_vector<__m512i, uint32_t, uint16_t, 16>(v))
#define _mm512_cvtepi32_epi16(v) (octet::emulated::convert_vector<__m256i, uint16_t, uint32_t, 16>(v))
#define _mm512_cvtepi32_epi8(v) (octet::emulated::convert_vector<__m128i, uint8_t, uint32_t, 16>(v))
#define _mm512_cvtph_ps(v) (octet::emulated::halves_to_floats(v))
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, rounding) (octet::emulated::floats_to_halves(v))
#define _mm512_stream_si512(into, v) simde_mm512_storeu_si512(into, v)

#include "octet/backend/cpu/lanes_avx512.h"
//
#include "octet/backend/cpu/normal_tables_avx512.h"
//
#include "tests/backend/cpu/emulated_tiles.h"
//
#include "octet/backend/cpu/attention_amx-inl.h"
#include "octet/backend/cpu/elementwise-inl.h"
#include "octet/backend/cpu/quantize-inl.h"

namespace octet {

const QuantizeKernels& emulated_quantize_kernels() {
  return OCTET_ISA::kQuantizeKernels;
}
const ElementwiseKernels& emulated_elementwise_kernels() {
  return OCTET_ISA::kElementwiseKernels;
}
const AttentionKernels& emulated_attention_kernels() {
  return OCTET_ISA::kAttentionKernels;
}
const AttentionKernels& emulated_normal_attention_kernels() {
  return OCTET_ISA::kNormalAttentionKernels;
}
const AttentionKernels& emulated_table_attention_kernels() {
  using OCTET_ISA::lanes::AskedInOrder;
  using OCTET_ISA::lanes::DecodedByTables;
  return OCTET_ISA::kAttentionKernelsOf<OCTET_ISA::lanes::Reading<DecodedByTables, AskedInOrder>>;
}
const AttentionKernels& emulated_amx_attention_kernels() {
  using OCTET_ISA::lanes::AskedInQuarters;
  using OCTET_ISA::lanes::DecodedByTables;
  return OCTET_ISA::kAttentionKernelsAmx<OCTET_ISA::lanes::Reading<DecodedByTables, AskedInQuarters>>;
}

}  // namespace octet
