// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/follow.h"

#include <memory>
#include <string>

#include "octet/engine/orders.h"
#include "octet/llm/layerwise.h"

namespace octet {
namespace {

class Follower {
 public:
  explicit Follower(LLM& llm) : llm_(llm), reference_spec_(reference_options()) {}

  /// False at the end.
  bool take(const Order& order) {
    switch (order.kind) {
      case OrderKind::kEnd:
        return false;
      case OrderKind::kForward:
      case OrderKind::kLogits:
        llm_.engine().follow(order);
        return true;
      case OrderKind::kReferenceRun:
        if (!reference_) {
          reference_ = std::make_unique<LayerwiseRun>(llm_.model(), reference_spec_, order.numbers[2]);
        }
        [[fallthrough]];
      case OrderKind::kReferenceLogits:
        check(reference_ != nullptr, "logits of a reference are asked for after its run");
        reference_->follow(order);
        return true;
    }
    throw ArgumentError("unknown order " + std::to_string(static_cast<int64_t>(order.kind)) +
                        ": all ranks must run the same version of octet");
  }

 private:
  LLM& llm_;
  QuantSpec reference_spec_;
  std::unique_ptr<LayerwiseRun> reference_;
};

}  // namespace

void follow(LLM& llm) {
  Follower follower(llm);
  while (follower.take(take_order(llm.model().communicator()))) {
  }
}

void wait_for_end(Communicator& communicator) {
  const Order order = take_order(communicator);
  check(order.kind == OrderKind::kEnd, "a rank without a model can only end");
}

void end_followers(Communicator& communicator) {
  give_order(communicator, {.kind = OrderKind::kEnd});
}

}  // namespace octet
