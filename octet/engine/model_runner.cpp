// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/model_runner.h"

#include <algorithm>
#include <cstring>

namespace octet {
namespace {

/// Hidden rows gathered for the head lie beside the logits.
constexpr int64_t kAlignmentSlack = 128;

}  // namespace

int64_t workspace_bytes(const Decoder& decoder, const StepLimits& limits) {
  return decoder.workspace_bytes(limits.max_tokens, limits.max_logit_rows) + kAlignmentSlack;
}

ModelRunner::ModelRunner(const Decoder& decoder, const KvCache& cache, const StepLimits& limits)
    : decoder_(decoder),
      cache_(cache),
      limits_(limits),
      arena_(Buffer(decoder.context().backend.allocator(), decoder.context().backend.ledger(), "workspace",
                    workspace_bytes(decoder, limits))) {
  token_ids_.reserve(static_cast<size_t>(limits.max_tokens));
  positions_.reserve(static_cast<size_t>(limits.max_tokens));
  slots_.reserve(static_cast<size_t>(limits.max_tokens));
  sequence_starts_.reserve(static_cast<size_t>(limits.max_sequences) + 1);
  context_lengths_.reserve(static_cast<size_t>(limits.max_sequences));
  block_tables_.reserve(static_cast<size_t>(limits.max_sequences * limits.max_blocks_per_sequence));
}

void ModelRunner::fill_batch(std::span<const ScheduledChunk> chunks) {
  token_ids_.clear();
  positions_.clear();
  slots_.clear();
  sequence_starts_.assign(1, 0);
  context_lengths_.clear();
  block_tables_.clear();
  const int64_t block_size = cache_.spec().block_size;
  for (const ScheduledChunk& chunk : chunks) {
    const Sequence& sequence = *chunk.sequence;
    for (int64_t position = chunk.first; position < chunk.first + chunk.count; ++position) {
      token_ids_.push_back(sequence.tokens[static_cast<size_t>(position)]);
      positions_.push_back(static_cast<int32_t>(position));
      const int32_t block = sequence.blocks[static_cast<size_t>(position / block_size)];
      slots_.push_back(static_cast<int32_t>(block * block_size + position % block_size));
    }
    sequence_starts_.push_back(static_cast<int32_t>(token_ids_.size()));
    context_lengths_.push_back(static_cast<int32_t>(chunk.first + chunk.count));
    block_tables_.insert(block_tables_.end(), sequence.blocks.begin(), sequence.blocks.end());
    block_tables_.resize(context_lengths_.size() * static_cast<size_t>(limits_.max_blocks_per_sequence), 0);
  }
}

TensorView ModelRunner::forward(std::span<const ScheduledChunk> chunks) {
  fill_batch(chunks);
  arena_.rewind(0);
  const Batch batch{.token_ids = token_ids_,
                    .positions = positions_,
                    .slots = slots_,
                    .layout = {.sequence_starts = sequence_starts_,
                               .context_lengths = context_lengths_,
                               .block_tables = block_tables_,
                               .max_blocks = limits_.max_blocks_per_sequence}};
  return decoder_.forward(batch, cache_.layers(), arena_);
}

ConstTensorView ModelRunner::logits(ConstTensorView hidden) {
  const TensorView result = arena_.tensor(DType::kF32, Shape{hidden.rows(), decoder_.spec().vocab_size});
  decoder_.logits(hidden, result, arena_);
  return result;
}

ConstTensorView ModelRunner::run(std::span<const ScheduledChunk> chunks) {
  const TensorView hidden = forward(chunks);
  const int64_t width = decoder_.spec().hidden_size;
  const auto count =
      std::count_if(chunks.begin(), chunks.end(), [](const ScheduledChunk& c) { return c.samples(); });
  const TensorView last = arena_.tensor(DType::kF32, Shape{count, width});  // [n, H]
  int64_t row = 0;
  for (size_t s = 0; s < chunks.size(); ++s) {
    if (!chunks[s].samples()) continue;
    std::memcpy(last.row<float>(row++), hidden.row<float>(sequence_starts_[s + 1] - 1),
                static_cast<size_t>(width) * sizeof(float));
  }
  return logits(last);
}

}  // namespace octet
