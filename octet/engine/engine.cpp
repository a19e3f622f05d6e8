// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/engine.h"

#include <algorithm>
#include <cstdint>

#include "octet/base/checked_math.h"

namespace octet {
namespace {

/// Rows of logits held at a time where every position's are wanted: 64 rows of a 128k vocabulary are 32 MiB.
constexpr int64_t kLogitRows = 64;

/// A slot, the place of a token in the cache, is an int32; whole blocks must fit below its end.
constexpr int64_t kMostCacheTokens = INT32_MAX - kKvBlockSize;

EngineOptions completed(EngineOptions options, const DecoderSpec& spec) {
  check(options.max_model_len >= 1 && options.max_num_seqs >= 1 && options.max_step_tokens >= 1,
        "an engine needs room for one sequence of one token");
  check(options.max_model_len <= kMostCacheTokens && options.kv_cache_tokens <= kMostCacheTokens,
        "slots count the tokens of the cache with an int32");
  options.kv_cache_tokens = round_up(std::max(options.kv_cache_tokens, options.max_model_len), kKvBlockSize);
  options.max_step_tokens = std::max(options.max_step_tokens, options.max_num_seqs);
  if (options.vocab_limit <= 0) options.vocab_limit = spec.vocab_size;
  options.vocab_limit = std::min(options.vocab_limit, spec.vocab_size);
  return options;
}

}  // namespace

KvCacheSpec kv_cache_spec(const Decoder& decoder, DType dtype) {
  if (const auto& latent = decoder.spec().latent) {
    return {.layers = decoder.spec().num_hidden_layers,
            .heads = 1,
            .head_dim = latent->cached_dim(),
            .dtype = dtype,
            .block_size = kKvBlockSize,
            .latent = true};
  }
  return {.layers = decoder.spec().num_hidden_layers,
          .heads = decoder.key_value_heads(),
          .head_dim = decoder.spec().head_dim,
          .dtype = dtype,
          .block_size = kKvBlockSize};
}

StepLimits step_limits(const EngineOptions& options) {
  return {.max_tokens = std::max(options.max_step_tokens, options.max_num_seqs),
          .max_sequences = options.max_num_seqs,
          .max_logit_rows = std::max(options.max_num_seqs, std::min(options.max_step_tokens, kLogitRows)),
          .max_blocks_per_sequence = ceil_div(options.max_model_len, kKvBlockSize)};
}

Engine::Engine(const Decoder& decoder, const EngineOptions& options)
    : decoder_(decoder),
      options_(completed(options, decoder.spec())),
      cache_(decoder.context().backend, kv_cache_spec(decoder, options_.kv_cache_dtype),
             options_.kv_cache_tokens / kKvBlockSize),
      blocks_(cache_.num_blocks(), kKvBlockSize),
      scheduler_({.max_num_seqs = options_.max_num_seqs, .max_step_tokens = options_.max_step_tokens},
                 blocks_),
      runner_(decoder, cache_, step_limits(options_)) {
  const auto sequences = static_cast<size_t>(options_.max_num_seqs);
  const auto threads = static_cast<size_t>(decoder.context().backend.threads().threads());
  samplers_.reserve(std::min(sequences, threads));
  while (samplers_.size() < std::min(sequences, threads)) samplers_.emplace_back(options_.vocab_limit);
  events_.reserve(sequences);
  sampled_.reserve(sequences);
  chosen_.reserve(sequences);
}

void Engine::check_prompt(std::span<const int32_t> prompt) const {
  if (prompt.empty()) throw ArgumentError("prompt: expected at least one token, found none");
  const int64_t vocab = decoder_.spec().vocab_size;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] >= 0 && prompt[i] < vocab) continue;
    throw ArgumentError("prompt[" + std::to_string(i) + "]: expected a token id from 0 to " +
                        std::to_string(vocab - 1) + ", found " + std::to_string(prompt[i]));
  }
}

int64_t Engine::add(Request request) {
  request.params.validate();
  check_prompt(request.prompt);
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length >= options_.max_model_len) {
    throw ArgumentError("prompt: expected at most " + std::to_string(options_.max_model_len - 1) +
                        " tokens (the context length is " + std::to_string(options_.max_model_len) +
                        " and one new token must fit), found " + std::to_string(length));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->prompt_tokens = length;
  sequence->max_length = length + std::min(request.params.max_tokens, options_.max_model_len - length);
  sequence->generator.seed(request.params.seed);
  sequence->params = std::move(request.params);
  sequence->tokens = std::move(request.prompt);
  sequence->tokens.reserve(static_cast<size_t>(sequence->max_length));
  sequence->blocks.reserve(static_cast<size_t>(blocks_.blocks_for(sequence->max_length)));
  const std::scoped_lock lock(queue_mutex_);
  sequence->id = next_id_++;
  queued_.push_back(std::move(sequence));
  return next_id_ - 1;
}

void Engine::cancel(int64_t sequence) {
  const std::scoped_lock lock(queue_mutex_);
  cancelled_.push_back(sequence);
}

void Engine::take_queued() {
  const std::scoped_lock lock(queue_mutex_);
  for (auto& sequence : queued_) scheduler_.add(std::move(sequence));
  queued_.clear();
  for (const int64_t id : cancelled_) scheduler_.remove(id);
  cancelled_.clear();
}

void Engine::drop_cache() {
  take_queued();
  scheduler_.forget_computed();
}

void Engine::check_allowed() const {
  if (!refusal_.empty()) throw DeviceError(refusal_);
}

bool Engine::has_work() {
  take_queued();
  return !scheduler_.empty();
}

std::span<const TokenEvent> Engine::step() {
  check_allowed();
  events_.clear();
  take_queued();
  if (scheduler_.empty()) return events_;
  const auto chunks = scheduler_.next();
  const ConstTensorView logits = runner_.run(chunks);
  sampled_.clear();
  for (const ScheduledChunk& chunk : chunks) {
    if (chunk.samples()) sampled_.push_back(chunk.sequence);
    chunk.sequence->computed = chunk.first + chunk.count;
  }
  choose_tokens(logits);
  for (size_t i = 0; i < sampled_.size(); ++i) {
    Sequence& sequence = *sampled_[i];
    const int32_t token = chosen_[i];
    sequence.tokens.push_back(token);
    events_.push_back({.sequence = sequence.id, .token = token, .finished = finish_reason(sequence, token)});
  }
  for (const TokenEvent& event : events_) {
    if (event.finished) scheduler_.remove(event.sequence);
  }
  return events_;
}

void Engine::choose_tokens(ConstTensorView logits) {
  const size_t count = sampled_.size();
  const size_t shares = std::min(count, samplers_.size());
  chosen_.resize(count);
  const auto choose = [&](int64_t share, int) {
    for (auto i = static_cast<size_t>(share); i < count; i += shares) {
      const std::span<const float> values(logits.row<float>(static_cast<int64_t>(i)),
                                          static_cast<size_t>(logits.cols()));
      Sequence& sequence = *sampled_[i];
      chosen_[i] = samplers_[static_cast<size_t>(share)].sample(values, sequence.params, sequence.generator);
    }
  };
  decoder_.context().backend.threads().parallel_for(static_cast<int64_t>(shares), choose);
}

std::optional<FinishReason> Engine::finish_reason(const Sequence& sequence, int32_t token) const {
  const auto contains = [token](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  if (!sequence.params.ignore_eos && contains(decoder_.spec().eos_token_ids)) return FinishReason::kStop;
  if (contains(sequence.params.stop_token_ids)) return FinishReason::kStop;
  if (sequence.length() >= sequence.max_length) return FinishReason::kLength;
  return std::nullopt;
}

Sequence Engine::prompt_sequence(std::span<const int32_t> prompt) {
  check_prompt(prompt);
  Sequence sequence;
  sequence.tokens.assign(prompt.begin(), prompt.end());
  if (sequence.length() > options_.max_model_len || !blocks_.grow(sequence.blocks, sequence.length())) {
    throw ArgumentError("prompt: expected at most " + std::to_string(options_.max_model_len) +
                        " tokens (the context length), found " + std::to_string(sequence.length()));
  }
  return sequence;
}

}  // namespace octet
