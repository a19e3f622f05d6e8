// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/model_runner.h"

#include <cstring>

namespace octet {

int64_t workspace_bytes(const Decoder& decoder, const StepLimits& limits) {
  return decoder.workspace_bytes(limits.max_tokens, limits.max_logit_rows) + kAlignmentSlack;
}

ModelRunner::ModelRunner(const Decoder& decoder, const KvCache& cache, const StepLimits& limits)
    : decoder_(decoder),
      cache_(cache),
      limits_(limits),
      arena_(Buffer(decoder.context().backend.allocator(), decoder.context().backend.ledger(), "workspace",
                    workspace_bytes(decoder, limits))),
      batch_(limits, cache.spec().block_size) {
  rows_.reserve(static_cast<size_t>(limits.max_logit_rows));
}

void ModelRunner::forward(std::span<const ScheduledChunk> chunks) {
  batch_.fill(chunks);
  batch_.send(decoder_.context().communicator);
  forward_batch();
}

void ModelRunner::forward_batch() {
  arena_.rewind(0);
  hidden_ = decoder_.forward(batch_.batch(), cache_.layers(), arena_);
}

ConstTensorView ModelRunner::logits_of_rows() {
  Communicator& communicator = decoder_.context().communicator;
  const auto count = static_cast<int64_t>(rows_.size());
  give_order(communicator, {.kind = OrderKind::kLogits, .numbers = {count}});
  communicator.broadcast_values(std::span(rows_));
  return head(arena_.tensor(DType::kF32, Shape{count, decoder_.spec().vocab_size}));
}

TensorView ModelRunner::head(TensorView logits) {
  const ArenaScope scope(arena_);
  const int64_t width = decoder_.spec().hidden_size;
  const TensorView rows = arena_.tensor(DType::kF32, Shape{static_cast<int64_t>(rows_.size()), width});
  for (size_t i = 0; i < rows_.size(); ++i) {
    std::memcpy(rows.row<float>(static_cast<int64_t>(i)), hidden_.row<float>(rows_[i]),
                static_cast<size_t>(width) * sizeof(float));
  }
  decoder_.logits(rows, logits, arena_);
  return logits;
}

ConstTensorView ModelRunner::run(std::span<const ScheduledChunk> chunks) {
  forward(chunks);
  rows_.clear();
  for (size_t s = 0; s < chunks.size(); ++s) {
    if (chunks[s].samples()) rows_.push_back(static_cast<int32_t>(batch_.end_of(s) - 1));
  }
  return logits_of_rows();
}

void ModelRunner::follow(const Order& order) {
  Communicator& communicator = decoder_.context().communicator;
  if (order.kind == OrderKind::kForward) {
    batch_.receive(communicator, order);
    return forward_batch();
  }
  const int64_t count = order.numbers[0];
  check(order.kind == OrderKind::kLogits && count >= 0 && count <= limits_.max_logit_rows,
        "a runner follows orders within its limits");
  rows_.resize(static_cast<size_t>(count));
  communicator.broadcast_values(std::span(rows_));
  (void)head({});
}

}  // namespace octet
