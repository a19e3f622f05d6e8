// SPDX-License-Identifier: Apache-2.0
/// Candidates for the conformance suite of the multiply: the cpu backend with emulated AVX-512 kernels.
#include <algorithm>

#include "octet/backend/cpu/cpu_backend.h"
#include "tests/backend/cpu/avx512_emulated_multiply.h"
#include "tests/conformance/conformance.h"
#include "tests/support/sanitized.h"

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

/// A sanitizer sees what the kernels themselves read and write where the processor has their instructions,
/// but for those of tiles, which are assembly.
bool is_sanitized_natively(CpuIsa isa) {
  const std::vector<CpuIsa> native = supported_isas();
  return test::kSanitized && isa != CpuIsa::kAmxBf16 && std::ranges::find(native, isa) != native.end();
}

}  // namespace

std::vector<Candidate> candidates() {
  std::vector<Candidate> all;
  const auto add = [&](std::string name, CpuIsa isa, const MultiplyKernels& multiply) {
    if (!is_sanitized_natively(isa)) all.push_back(candidate(std::move(name), isa, multiply));
  };
  add("emulated_avx512", CpuIsa::kAvx512, emulated_avx512_multiply_kernels());
  add("emulated_avx512_normal", CpuIsa::kAvx512,
      with_panels(emulated_avx512_multiply_kernels(), emulated_avx512_normal_panels()));
  add("emulated_avx512_bf16", CpuIsa::kAvx512Bf16, emulated_avx512_bf16_multiply_kernels());
  add("emulated_amx_bf16", CpuIsa::kAmxBf16, emulated_amx_bf16_multiply_kernels());
  return all;
}

}  // namespace octet::conformance
