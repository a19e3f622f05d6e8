// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/reference/reference_backend.h"

namespace octet {

ReferenceBackend::ReferenceBackend(MemoryLedger& ledger, MatrixLayout weight_layout, Threads threads)
    : ledger_(ledger), weight_layout_(weight_layout), threads_(threads) {}

std::string ReferenceBackend::describe() const {
  return "reference";
}

}  // namespace octet
