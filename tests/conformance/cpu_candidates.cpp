// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/cpu_backend.h"
#include "tests/conformance/conformance.h"

namespace octet::conformance {

std::vector<Candidate> cpu_candidates() {
  std::vector<Candidate> all;
  for (const CpuIsa isa : supported_isas()) {
    for (const int threads : {1, 2, 3}) {
      all.push_back({.name = "cpu_" + std::string(to_string(isa)) + "_threads" + std::to_string(threads),
                     .threads = threads,
                     .make = [isa](int count, MemoryLedger& ledger) { return make_cpu_backend(count, isa, ledger); }});
    }
  }
  return all;
}

}  // namespace octet::conformance
