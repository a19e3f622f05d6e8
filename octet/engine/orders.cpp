// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/orders.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {
namespace {

using Words = std::array<int64_t, 4>;

}  // namespace

void give_order(Communicator& communicator, const Order& order) {
  if (communicator.world_size() == 1) return;
  check(communicator.rank() == 0, "orders come from rank 0");
  Words words{static_cast<int64_t>(order.kind)};
  std::ranges::copy(order.numbers, words.begin() + 1);
  communicator.broadcast_values(std::span(words));
}

Order take_order(Communicator& communicator) {
  check(communicator.rank() != 0, "rank 0 takes no orders");
  Words words{};
  communicator.broadcast_values(std::span(words));
  Order order{.kind = static_cast<OrderKind>(words.front())};
  std::copy(words.begin() + 1, words.end(), order.numbers.begin());
  return order;
}

}  // namespace octet
