// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/planning.h"

#include "octet/base/error.h"

namespace octet {
namespace {

[[noreturn]] void refuse() {
  throw ArgumentError("a rank that is only planned meets no other");
}

}  // namespace

void PlanningCommunicator::barrier() {
  refuse();
}

void PlanningCommunicator::gather_to_all(std::span<const std::byte> /*mine*/, std::span<std::byte> /*all*/) {
  refuse();
}

void PlanningCommunicator::gather_to_first(std::span<const std::byte> /*mine*/,
                                           std::span<const int64_t> /*bytes*/, std::span<std::byte> /*all*/) {
  refuse();
}

void PlanningCommunicator::send_to_all(std::span<std::byte> /*bytes*/) {
  refuse();
}

}  // namespace octet
