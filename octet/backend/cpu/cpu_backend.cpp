// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"

#include "octet/backend/cpu/choose_kernels.h"

namespace octet {

CpuBackend::CpuBackend(Threads threads, CpuIsa isa, const Kernels& kernels, MemoryLedger& ledger)
    : isa_(isa),
      kernels_(kernels),
      ledger_(ledger),
      threads_(threads),
      multiply_({.kernels = kernels_.multiply,
                 .quantize = kernels_.quantize,
                 .elementwise = kernels_.elementwise,
                 .allocator = allocator_,
                 .ledger = ledger,
                 .threads = threads_}),
      attention_(kernels_.attention, allocator_, ledger, threads_) {}

std::string CpuBackend::describe() const {
  const int threads = threads_.threads();
  return "cpu (" + std::string(to_string(isa_)) + ", " + std::to_string(threads) +
         (threads == 1 ? " thread)" : " threads)");
}

std::unique_ptr<Backend> make_cpu_backend(Threads threads, std::optional<CpuIsa> isa, MemoryLedger& ledger) {
  const CpuIsa chosen = checked_isa(isa.value_or(supported_isas().back()));
  Kernels kernels = kernels_for(chosen);
  if (slow_subnormals()) kernels = without_subnormals(kernels);
  kernels.multiply.streams = reads_faster_in_streams();
  return std::make_unique<CpuBackend>(threads, chosen, kernels, ledger);
}

}  // namespace octet
