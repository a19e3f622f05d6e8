// SPDX-License-Identifier: Apache-2.0
/// Token ids in, token ids out: a queue of requests, and steps that move all running ones on together.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/engine/kv_cache.h"
#include "octet/engine/model_runner.h"
#include "octet/engine/sampler.h"
#include "octet/engine/scheduler.h"

namespace octet {

struct EngineOptions {
  int64_t max_num_seqs = 1;
  int64_t max_model_len = 2048;   ///< prompt and new tokens of one sequence
  int64_t max_step_tokens = 512;  ///< chunk of prefill
  DType kv_cache_dtype = DType::kBF16;
  int64_t kv_cache_tokens =
      2048;                 ///< rounded up to whole blocks; at least one sequence of max_model_len must fit
  int64_t vocab_limit = 0;  ///< ids from here on are never sampled; 0: the model's vocabulary
};

/// Tokens of one block of the cache.
inline constexpr int64_t kKvBlockSize = 32;

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams params;
};

struct TokenEvent {
  int64_t sequence = 0;
  int32_t token = 0;
  std::optional<FinishReason> finished;
};

/// The cache that an engine of these options takes for a decoder, on this rank.
[[nodiscard]] KvCacheSpec kv_cache_spec(const Decoder& decoder, DType dtype);
[[nodiscard]] StepLimits step_limits(const EngineOptions& options);

/// `add` and `cancel` may be called from any thread; `step` from one at a time. The decoder must outlive it.
/// Of a model that is cut, the engine of rank 0 leads those of the other ranks.
class Engine {
 public:
  Engine(const Decoder& decoder, const EngineOptions& options);

  /// Queues a request. Throws ArgumentError when it is empty, has ids outside the vocabulary, is too long for
  /// the context, or has parameters out of range. max_tokens beyond the context is cut to it.
  int64_t add(Request request);
  /// Ends a sequence; its events stop. Unknown or finished ids are ignored.
  void cancel(int64_t sequence);

  [[nodiscard]] bool has_work();

  /// Forgets all keys and values: what runs is computed anew from its tokens. For weights that have changed.
  /// Not beside a step.
  void drop_cache();
  /// From now on `step` and `prompt_logits` throw DeviceError with this reason; empty: they work again.
  void refuse_steps(std::string reason) { refusal_ = std::move(reason); }

  /// Moves every scheduled sequence on. The events are valid until the next call.
  std::span<const TokenEvent> step();

  /// Logits [rows, V] of every position of a prompt, in pieces: visit(first_row, logits). Not beside running
  /// requests.
  template <class Visit>
  void prompt_logits(std::span<const int32_t> prompt, Visit&& visit) {
    check_allowed();
    Sequence sequence = prompt_sequence(prompt);
    const BlockLease lease(blocks_, sequence.blocks);
    for (int64_t first = 0; first < sequence.length(); first += options_.max_step_tokens) {
      const ScheduledChunk chunk{&sequence, first,
                                 std::min(options_.max_step_tokens, sequence.length() - first)};
      runner_.run_all_rows(std::span(&chunk, 1),
                           [&](int64_t row, ConstTensorView logits) { visit(first + row, logits); });
      sequence.computed = first + chunk.count;
    }
  }

  /// On ranks other than 0: takes part in a step of rank 0's engine, whose options must be these.
  void follow(const Order& order) { runner_.follow(order); }

  [[nodiscard]] const EngineOptions& options() const { return options_; }
  [[nodiscard]] const KvCache& cache() const { return cache_; }

 private:
  void take_queued();
  /// The next token of each sequence in sampled_, one row of logits each, into chosen_: on the backend's
  /// threads.
  void choose_tokens(ConstTensorView logits);
  void check_allowed() const;
  void check_prompt(std::span<const int32_t> prompt) const;
  [[nodiscard]] Sequence prompt_sequence(std::span<const int32_t> prompt);
  [[nodiscard]] std::optional<FinishReason> finish_reason(const Sequence& sequence, int32_t token) const;

  const Decoder& decoder_;
  EngineOptions options_;
  KvCache cache_;
  BlockManager blocks_;
  Scheduler scheduler_;
  ModelRunner runner_;
  std::vector<Sampler> samplers_;  // as many as may work side by side
  std::vector<Sequence*> sampled_;
  std::vector<int32_t> chosen_;
  std::vector<TokenEvent> events_;
  std::string refusal_;

  std::mutex queue_mutex_;  // guards what other threads hand in
  std::vector<std::unique_ptr<Sequence>> queued_;
  std::vector<int64_t> cancelled_;
  int64_t next_id_ = 1;
};

}  // namespace octet
