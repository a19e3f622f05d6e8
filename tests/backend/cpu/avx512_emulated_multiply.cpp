// SPDX-License-Identifier: Apache-2.0
/// SIMDe computes what the AVX-512 instructions would. OCTET_ISA and SIMDE_ENABLE_NATIVE_ALIASES are defined
/// by CMake.
#include "tests/backend/cpu/avx512_emulated_multiply.h"

#include <immintrin.h>
// The real header first, so that the aliases below do not rewrite it.
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstring>

#include "octet/core/bfloat16.h"
#include "tests/backend/cpu/emulated_bf16.h"

namespace octet::emulated {

/// A vector as an array of lanes, and back.
template <class Lane, size_t kCount>
struct Lanes {
  Lane lane[kCount];
};
template <class To, class From>
inline To as_lanes(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline __m512 halves_to_floats(__m256i v) {
  const auto in = as_lanes<Lanes<uint16_t, 16>>(v);
  Lanes<float, 16> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = to_float(float16{in.lane[i]});
  return as_lanes<__m512>(out);
}

inline __m256i low_halves(__m512i v) {
  const auto in = as_lanes<Lanes<uint32_t, 16>>(v);
  Lanes<uint16_t, 16> out;
  for (int i = 0; i < 16; ++i) out.lane[i] = static_cast<uint16_t>(in.lane[i]);
  return as_lanes<__m256i>(out);
}

inline __m512i shift_right_signed(__m512i v, int count) {
  auto lanes = as_lanes<Lanes<int32_t, 16>>(v);
  for (int32_t& lane : lanes.lane) lane >>= count;
  return as_lanes<__m512i>(lanes);
}

/// As the manual has it: two fused multiply-adds, the odd element first, subnormal operands and results
/// flushed.
inline __m512 dot_of_pairs(__m512 sum, __m512i a, __m512i b) {
  auto out = as_lanes<Lanes<float, 16>>(sum);
  const auto x = as_lanes<Lanes<uint32_t, 16>>(a);
  const auto y = as_lanes<Lanes<uint32_t, 16>>(b);
  for (int i = 0; i < 16; ++i) {
    const float first = flush(std::fma(bf16_half(x.lane[i], 1), bf16_half(y.lane[i], 1), flush(out.lane[i])));
    out.lane[i] = flush(std::fma(bf16_half(x.lane[i], 0), bf16_half(y.lane[i], 0), first));
  }
  return as_lanes<__m512>(out);
}

inline void store_aligned(void* into, __m512i v) {
  std::memcpy(into, &v, sizeof v);
}

}  // namespace octet::emulated

// What SIMDe lacks, or rounds otherwise.
#undef _mm512_cvtph_ps
#undef _mm512_cvtepi32_epi16
#undef _mm512_dpbf16_ps
#undef _mm512_stream_si512
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(v, count) (octet::emulated::shift_right_signed(v, count))
#define __m512bh __m512i
#define _mm512_cvtph_ps(v) (octet::emulated::halves_to_floats(v))
#define _mm512_cvtepi32_epi16(v) (octet::emulated::low_halves(v))
#define _mm512_dpbf16_ps(sum, a, b) (octet::emulated::dot_of_pairs(sum, a, b))
#define _mm512_stream_si512(into, v) (octet::emulated::store_aligned(into, v))

#include "octet/backend/cpu/simd_avx512_bf16.h"
#include "tests/backend/cpu/emulated_tiles.h"
//
#include "octet/backend/cpu/multiply_amx-inl.h"

namespace octet {

const MultiplyKernels& emulated_avx512_multiply_kernels() {
  return OCTET_ISA::kMultiplyKernels;
}
const FloatPanels& emulated_avx512_normal_panels() {
  return OCTET_ISA::kNormalPanels;
}
const MultiplyKernels& emulated_avx512_bf16_multiply_kernels() {
  return OCTET_ISA::kMultiplyKernelsBf16;
}
const MultiplyKernels& emulated_amx_bf16_multiply_kernels() {
  return OCTET_ISA::kMultiplyKernelsAmx;
}

}  // namespace octet
