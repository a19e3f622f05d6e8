// SPDX-License-Identifier: Apache-2.0
/// Turns scheduled chunks into one batch, runs the decoder and returns logits; on the ranks that only hold a
/// part of the model, does the same at rank 0's order. Everything a step needs is taken at construction: a
/// step allocates nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "octet/engine/kv_cache.h"
#include "octet/engine/orders.h"
#include "octet/engine/scheduler.h"
#include "octet/engine/step_batch.h"
#include "octet/models/decoder.h"

namespace octet {

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
    forward(chunks);
    for (int64_t row = 0; row < hidden_.rows(); row += limits_.max_logit_rows) {
      const ArenaScope scope(arena_);
      rows_.resize(static_cast<size_t>(std::min(hidden_.rows() - row, limits_.max_logit_rows)));
      std::iota(rows_.begin(), rows_.end(), static_cast<int32_t>(row));
      visit(row, logits_of_rows());
    }
  }

  /// On ranks other than 0: what rank 0 does in `run` and `run_all_rows`, one order of kForward or kLogits at
  /// a time.
  void follow(const Order& order);

 private:
  void forward(std::span<const ScheduledChunk> chunks);
  void forward_batch();
  /// Logits [n, V] of the rows `rows_` of the last step.
  [[nodiscard]] ConstTensorView logits_of_rows();
  [[nodiscard]] TensorView head(TensorView logits);

  const Decoder& decoder_;
  const KvCache& cache_;
  StepLimits limits_;
  Arena arena_;
  StepBatch batch_;
  std::vector<int32_t> rows_;  // of the last step, those that get logits
  TensorView hidden_;          // [T, H] of the last step, in the arena
};

}  // namespace octet
