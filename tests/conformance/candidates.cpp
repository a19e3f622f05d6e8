// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/choose_kernels.h"
#include "octet/backend/cpu/cpu_backend.h"
#include "tests/conformance/conformance.h"
#include "tests/support/sanitized.h"

namespace octet::conformance {
namespace {

/// With those of its kernels that make_cpu_backend does not choose on this machine.
std::unique_ptr<Backend> make_cpu_backend_of_others(int threads, CpuIsa isa, MemoryLedger& ledger) {
  Kernels kernels = kernels_for(isa);
  if (!slow_subnormals()) kernels = without_subnormals(kernels);
  kernels.multiply.streams = !reads_faster_in_streams();
  return std::make_unique<CpuBackend>(threads, isa, kernels, ledger);
}

/// What one thread and two read and write, tests of exactness and the other kernels show a sanitizer.
std::vector<int> thread_counts() {
  return test::kSanitized ? std::vector<int>{3} : std::vector<int>{1, 2, 3};
}

std::vector<Candidate> cpu_candidates() {
  std::vector<Candidate> all;
  for (const CpuIsa isa : supported_isas()) {
    for (const int threads : thread_counts()) {
      all.push_back(
          {.name = "cpu_" + std::string(to_string(isa)) + "_threads" + std::to_string(threads),
           .threads = threads,
           .make = [isa](int count, MemoryLedger& ledger) { return make_cpu_backend(count, isa, ledger); }});
    }
    all.push_back({.name = "cpu_" + std::string(to_string(isa)) + "_others_threads2",
                   .threads = 2,
                   .make = [isa](int count, MemoryLedger& ledger) {
                     return make_cpu_backend_of_others(count, isa, ledger);
                   }});
  }
  return all;
}

}  // namespace

std::vector<Candidate> candidates() {
  // The reference in the layout that it does not ask for by itself: the layout may change no result.
  std::vector<Candidate> all = {
      {.name = "reference_lanes64", .threads = 1, .make = [](int threads, MemoryLedger& ledger) {
         return std::make_unique<ReferenceBackend>(ledger, MatrixLayout::kLanes64, threads);
       }}};
  for (Candidate& candidate : cpu_candidates()) all.push_back(std::move(candidate));
  return all;
}

}  // namespace octet::conformance
