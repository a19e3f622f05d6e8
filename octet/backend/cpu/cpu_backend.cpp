// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

#include <algorithm>

#include "octet/backend/cpu/choose_kernels.h"
#include "octet/base/error.h"

namespace octet {

CpuBackend::CpuBackend(int threads, CpuIsa isa, MemoryLedger& ledger)
    : isa_(isa), kernels_(kernels_for(isa)), ledger_(ledger), threads_(threads),
      multiply_({.kernels = kernels_.multiply, .allocator = allocator_, .ledger = ledger, .threads = threads_}),
      attention_(kernels_.attention, allocator_, ledger, threads_),
      reference_(ledger, MatrixLayout::kLanes64) {}

std::string CpuBackend::describe() const {
  const int threads = threads_.threads();
  return "cpu (" + std::string(to_string(isa_)) + ", " + std::to_string(threads) +
         (threads == 1 ? " thread)" : " threads)");
}

std::unique_ptr<Backend> make_cpu_backend(int threads, std::optional<CpuIsa> isa, MemoryLedger& ledger) {
  const std::vector<CpuIsa> supported = supported_isas();
  if (isa && std::ranges::find(supported, *isa) == supported.end()) {
    std::string names;
    for (const CpuIsa each : supported) names += (names.empty() ? "" : ", ") + std::string(to_string(each));
    throw ConfigError("isa: this machine lacks " + std::string(to_string(*isa)) + "; it has " + names);
  }
  return std::make_unique<CpuBackend>(threads, isa.value_or(supported.back()), ledger);
}

}  // namespace octet
