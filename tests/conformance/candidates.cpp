// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/conformance.h"

namespace octet::conformance {

std::vector<Candidate> candidates() {
  // The reference in the layout that it does not ask for by itself: the layout may change no result.
  std::vector<Candidate> all = {{.name = "reference_lanes64", .threads = 1, .make = [](int threads, MemoryLedger& ledger) {
                                   return std::make_unique<ReferenceBackend>(ledger, MatrixLayout::kLanes64, threads);
                                 }}};
  for (Candidate& candidate : cpu_candidates()) all.push_back(std::move(candidate));
  return all;
}

}  // namespace octet::conformance
