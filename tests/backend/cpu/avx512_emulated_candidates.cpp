// SPDX-License-Identifier: Apache-2.0
/// Candidates for the conformance suite of the multiply: the cpu backend with emulated AVX-512 kernels.
#include "octet/backend/cpu/cpu_backend.h"
#include "tests/backend/cpu/avx512_emulated_multiply.h"
#include "tests/conformance/conformance.h"

namespace octet::conformance {
namespace {

Kernels with_multiply(const MultiplyKernels& multiply) {
  Kernels kernels = kernels_portable();
  kernels.multiply = multiply;
  return kernels;
}

MultiplyKernels with_panels(MultiplyKernels multiply, const FloatPanels& panels) {
  multiply.f32 = panels;
  return multiply;
}

Candidate candidate(std::string name, CpuIsa isa, const MultiplyKernels& multiply) {
  return {.name = std::move(name), .threads = 2, .make = [isa, multiply](int threads, MemoryLedger& ledger) {
            return std::make_unique<CpuBackend>(threads, isa, with_multiply(multiply), ledger);
          }};
}

}  // namespace

std::vector<Candidate> candidates() {
  return {candidate("emulated_avx512", CpuIsa::kAvx512, emulated_avx512_multiply_kernels()),
          candidate("emulated_avx512_normal", CpuIsa::kAvx512,
                    with_panels(emulated_avx512_multiply_kernels(), emulated_avx512_normal_panels())),
          candidate("emulated_avx512_bf16", CpuIsa::kAvx512Bf16, emulated_avx512_bf16_multiply_kernels()),
          candidate("emulated_amx_bf16", CpuIsa::kAmxBf16, emulated_amx_bf16_multiply_kernels())};
}

}  // namespace octet::conformance
