// SPDX-License-Identifier: Apache-2.0
/// Turns scheduled chunks into one batch, runs the decoder and returns logits. Everything a step needs is
/// taken at construction: a step allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/engine/kv_cache.h"
#include "octet/engine/scheduler.h"
#include "octet/models/decoder.h"

namespace octet {

struct StepLimits {
  int64_t max_tokens = 512;    ///< T of one step
  int64_t max_sequences = 1;   ///< S of one step
  int64_t max_logit_rows = 1;  ///< rows that get logits at a time
  int64_t max_blocks_per_sequence = 1;
};

/// Arena bytes of a runner with these limits: the "workspace" line of the memory plan.
[[nodiscard]] int64_t workspace_bytes(const Decoder& decoder, const StepLimits& limits);

/// Not thread-safe. Decoder and cache must outlive it.
class ModelRunner {
 public:
  ModelRunner(const Decoder& decoder, const KvCache& cache, const StepLimits& limits);

  /// Logits [n, V] of the last token of every chunk that samples, in order; valid until the next call.
  [[nodiscard]] ConstTensorView run(std::span<const ScheduledChunk> chunks);

  /// Runs the chunks and calls visit(first_row, logits [n, V]) over the rows of all their tokens, in order.
  template <class Visit>
  void run_all_rows(std::span<const ScheduledChunk> chunks, Visit&& visit) {
    const TensorView hidden = forward(chunks);
    for (int64_t row = 0; row < hidden.rows(); row += limits_.max_logit_rows) {
      const ArenaScope scope(arena_);
      const int64_t end = std::min(hidden.rows(), row + limits_.max_logit_rows);
      visit(row, logits(hidden.slice_rows(row, end)));
    }
  }

 private:
  void fill_batch(std::span<const ScheduledChunk> chunks);
  [[nodiscard]] TensorView forward(std::span<const ScheduledChunk> chunks);  // [T, H]
  [[nodiscard]] ConstTensorView logits(ConstTensorView hidden);

  const Decoder& decoder_;
  const KvCache& cache_;
  StepLimits limits_;
  Arena arena_;
  std::vector<int32_t> token_ids_;        // [T]
  std::vector<int32_t> positions_;        // [T]
  std::vector<int32_t> slots_;            // [T]
  std::vector<int32_t> sequence_starts_;  // [S + 1]
  std::vector<int32_t> context_lengths_;  // [S]
  std::vector<int32_t> block_tables_;     // [S, max_blocks_per_sequence]
};

}  // namespace octet
