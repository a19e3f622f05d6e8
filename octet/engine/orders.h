// SPDX-License-Identifier: Apache-2.0
/// How the ranks of a model that is cut stay in step: rank 0, which alone has text, scheduler and sampler,
/// tells the others what to do next; they do it at the same time as rank 0 does.
#pragma once

#include <array>
#include <cstdint>

#include "octet/comm/communicator.h"

namespace octet {

enum class OrderKind : int64_t {
  kEnd,              ///< nothing more will come
  kForward,          ///< tokens, sequences; the batch follows (ModelRunner)
  kLogits,           ///< rows; their numbers follow (ModelRunner)
  kReferenceRun,     ///< windows, tokens, the longest window; lengths and ids follow (LayerwiseRun)
  kReferenceLogits,  ///< window, first row, end (LayerwiseRun)
};

struct Order {
  OrderKind kind = OrderKind::kEnd;
  std::array<int64_t, 3> numbers{};
};

/// On rank 0. Does nothing where it is alone.
void give_order(Communicator& communicator, const Order& order);
/// On the others: waits for the next order, however long that takes.
[[nodiscard]] Order take_order(Communicator& communicator);

}  // namespace octet
