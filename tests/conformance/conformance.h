// SPDX-License-Identifier: Apache-2.0
/// The suite that holds every backend to the reference: cases are written once, and each backend, instruction
/// set and thread count is a candidate that they run against.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "octet/backend/reference/reference_backend.h"
#include "tests/conformance/memory.h"

namespace octet::conformance {

struct Candidate {
  std::string name;  ///< letters, digits and underscores: part of the test's name
  int threads = 1;
  std::function<std::unique_ptr<Backend>(int threads, MemoryLedger& ledger)> make;
};

/// All that this build and this machine can run.
[[nodiscard]] std::vector<Candidate> candidates();

/// For GTest's messages.
inline void PrintTo(const Candidate& candidate, std::ostream* out) {
  *out << candidate.name;
}

[[nodiscard]] inline std::string candidate_name(const testing::TestParamInfo<Candidate>& info) {
  return info.param.name;
}

class Conformance : public testing::TestWithParam<Candidate> {
 protected:
  [[nodiscard]] Backend& candidate() { return *candidate_; }
  [[nodiscard]] Backend& reference() { return reference_; }
  [[nodiscard]] Memory& memory() { return memory_; }
  /// The candidate with another number of threads.
  [[nodiscard]] std::unique_ptr<Backend> with_threads(int threads) {
    return GetParam().make(threads, memory_.ledger);
  }

 private:
  Memory memory_;
  ReferenceBackend reference_{memory_.ledger};
  std::unique_ptr<Backend> candidate_ = GetParam().make(GetParam().threads, memory_.ledger);
};

}  // namespace octet::conformance
