// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/llm.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "octet/base/checked_math.h"
#include "octet/base/clock.h"
#include "octet/base/cpu_features.h"
#include "octet/llm/text_stream.h"
#include "octet/loading/checkpoint_source.h"
#include "octet/loading/expert_source.h"
#include "octet/text/chat_prompt.h"

namespace octet {
namespace {

/// Left for the rest of the process when the cache takes what the machine has.
constexpr int64_t kMemoryReserve = int64_t{256} << 20;

int64_t blocks_to_tokens(int64_t bytes, int64_t bytes_per_token) {
  return bytes / (bytes_per_token * kKvBlockSize) * kKvBlockSize;
}

/// One prompt of a call on its way.
struct Stream {
  size_t index = 0;
  Generation* result = nullptr;
  StopStrings stops;
  std::optional<IncrementalDecoder> decoder;
  Clock::time_point first_token;
  bool done = false;
};

class GenerateCall {
 public:
  GenerateCall(Engine& engine, const Tokenizer* tokenizer, const TextCallback& on_text)
      : engine_(engine), tokenizer_(tokenizer), on_text_(on_text), start_(Clock::now()) {}

  void add(size_t index, const GenerateOptions& options, Generation& result) {
    if (!options.stop.empty() && tokenizer_ == nullptr) {
      throw ConfigError("stop strings need a tokenizer, and the model's folder has none");
    }
    Stream stream{.index = index,
                  .result = &result,
                  .stops = StopStrings(options.stop),
                  .decoder = {},
                  .first_token = {}};
    if (tokenizer_ != nullptr) stream.decoder = decoder_after(result.prompt_ids);
    const int64_t id = engine_.add({.prompt = result.prompt_ids, .params = options.sampling});
    streams_.emplace(id, std::move(stream));
  }

  void run() {
    while (engine_.has_work()) {
      const auto events = engine_.step();
      for (const TokenEvent& event : events) take(event);
      // A long prompt takes many steps without a token: the reader may want to stop then, too.
      if (events.empty() && on_text_ && !on_text_(0, {})) throw Interrupted("stopped on request");
    }
  }

  void cancel_all() {
    for (const auto& [id, stream] : streams_) engine_.cancel(id);
    (void)engine_.has_work();  // lets the engine act on it
  }

 private:
  /// The text of an answer is what it adds to its prompt: a first word keeps the blank before it.
  [[nodiscard]] IncrementalDecoder decoder_after(std::span<const int32_t> prompt) const {
    constexpr size_t kContext = 8;
    IncrementalDecoder decoder(*tokenizer_);
    for (const int32_t id : prompt.last(std::min(kContext, prompt.size()))) {
      if (id >= 0 && id < tokenizer_->vocab_size()) (void)decoder.push(id);
    }
    return decoder;
  }

  void take(const TokenEvent& event) {
    Stream& stream = streams_.at(event.sequence);
    if (stream.done) return;
    Generation& result = *stream.result;
    if (result.ids.empty()) {
      stream.first_token = Clock::now();
      result.prefill_seconds = seconds_since(start_);
    }
    result.ids.push_back(event.token);
    result.decode_seconds = seconds_since(stream.first_token);
    std::string text = stream.decoder ? stream.decoder->push(event.token) : std::string();
    if (event.finished && stream.decoder) text += stream.decoder->finish();
    text = stream.stops.push(text);
    if (stream.stops.stopped()) {
      result.finish_reason = FinishReason::kStop;
      stream.done = true;
      if (!event.finished) engine_.cancel(event.sequence);
    } else if (event.finished) {
      text += stream.stops.finish();
      result.finish_reason = *event.finished;
      stream.done = true;
    }
    result.text += text;
    if (on_text_ && !on_text_(stream.index, text)) throw Interrupted("stopped on request");
  }

  Engine& engine_;
  const Tokenizer* tokenizer_;
  const TextCallback& on_text_;
  Clock::time_point start_;
  std::unordered_map<int64_t, Stream> streams_;
};

}  // namespace

namespace {

/// Tokens that fit on every rank: what is given or, where nothing is, what is left, each rank's share of it.
int64_t cache_room(Model& model, const LlmOptions& options, int64_t bytes_per_token) {
  const int64_t available = available_memory_bytes() / model.communicator().local_ranks();
  const int64_t left = std::max<int64_t>(0, available - model.plan().peak_bytes - kMemoryReserve);
  return model.communicator().all_reduce_min(
      blocks_to_tokens(options.kv_cache_memory.value_or(left), bytes_per_token));
}

void fit_cache(CachePlan& plan, const DecoderSpec& spec, const LlmOptions& options, int64_t room) {
  const int64_t asked = options.max_model_len.value_or(spec.max_position_embeddings);
  if (asked < 1 || asked > spec.max_position_embeddings) {
    throw ConfigError("--max-model-len: expected 1 to " + std::to_string(spec.max_position_embeddings) +
                      " (the model's max_position_embeddings), found " + std::to_string(asked));
  }
  const int64_t wanted = round_up(asked, kKvBlockSize) * options.max_num_seqs;
  plan.tokens = options.kv_cache_memory ? room : std::min(wanted, room);
  plan.max_model_len = std::min(asked, plan.tokens);
  if (plan.tokens < kKvBlockSize || (options.max_model_len && plan.max_model_len < asked)) {
    throw ConfigError(
        "the KV cache of " + std::to_string(asked) + " tokens needs " +
        std::to_string(round_up(asked, kKvBlockSize) * plan.bytes_per_token) +
        " bytes, but there is room for " + std::to_string(plan.tokens) + " tokens (" +
        std::to_string(plan.tokens * plan.bytes_per_token) +
        " bytes); lower --max-model-len, raise --kv-cache-memory, or take --kv-cache-dtype fp8");
  }
}

}  // namespace

CachePlan plan_cache(Model& model, const LlmOptions& options) {
  CachePlan plan;
  plan.dtype = options.kv_cache_dtype.value_or(model.dtype());
  plan.bytes_per_token = kv_cache_spec(model.decoder(), plan.dtype).bytes_per_token();
  const int64_t room = cache_room(model, options, plan.bytes_per_token);
  if (model.communicator().rank() == 0) fit_cache(plan, model.spec(), options, room);
  std::array<int64_t, 2> decided{plan.max_model_len, plan.tokens};
  model.communicator().broadcast_values(std::span(decided));
  plan.max_model_len = decided[0];
  plan.tokens = decided[1];
  return plan;
}

std::optional<Tokenizer> open_tokenizer(const std::filesystem::path& folder, int64_t vocab_size) {
  if (!Tokenizer::present(folder)) return std::nullopt;
  Tokenizer tokenizer = Tokenizer::open(folder);
  if (tokenizer.vocab_size() > vocab_size) {
    throw ConfigError(folder.string() + ": the tokenizer does not match the model: its ids go up to " +
                      std::to_string(tokenizer.vocab_size() - 1) + ", config.json has vocab_size " +
                      std::to_string(vocab_size));
  }
  return tokenizer;
}

LLM::LLM(const std::filesystem::path& folder, const LlmOptions& options)
    : model_(std::make_unique<Model>(folder, options.model)) {
  if (model_->communicator().rank() == 0) {
    tokenizer_ = open_tokenizer(folder, model_->spec().vocab_size);
    chat_template_ = ChatTemplate::open(folder);
  }
  const CachePlan cache = plan_cache(*model_, options);
  model_->load();
  engine_ = std::make_unique<Engine>(model_->decoder(),
                                     EngineOptions{.max_num_seqs = options.max_num_seqs,
                                                   .max_model_len = cache.max_model_len,
                                                   .kv_cache_dtype = cache.dtype,
                                                   .kv_cache_tokens = cache.tokens,
                                                   .vocab_limit = tokenizer_ ? tokenizer_->vocab_size() : 0});
}

LLM::~LLM() = default;

namespace {

/// Runs its function on every way out of a scope.
template <class Body>
class OnExit {
 public:
  explicit OnExit(Body body) : body_(std::move(body)) {}
  ~OnExit() { body_(); }
  OnExit(const OnExit&) = delete;
  OnExit& operator=(const OnExit&) = delete;

 private:
  Body body_;
};

}  // namespace

void LLM::follow_weights() {
  engine_->drop_cache();
  engine_->refuse_steps(model_->incomplete());
}

const LoadReport& LLM::reload(const WeightSource& source, const ReloadOptions& options) {
  const OnExit end([this] { follow_weights(); });
  return model_->reload(source, options);
}

const LoadReport& LLM::reload(const std::filesystem::path& folder, const ReloadOptions& options) {
  const Checkpoint checkpoint(folder);
  auto files = std::make_unique<CheckpointSource>(checkpoint);
  const std::vector<Parameter> parameters = model_->decoder().parameters();
  if (!has_experts(parameters)) return reload(*files, options);
  return reload(ExpertSource(std::move(files), parameters), options);
}

WeightLoader& LLM::begin_reload(const ReloadOptions& options, std::vector<SourceTensor> announced) {
  WeightLoader& loader = model_->begin_reload(options, std::move(announced));
  if (!model_->incomplete().empty()) follow_weights();
  return loader;
}

const LoadReport& LLM::finish_reload() {
  const OnExit end([this] { follow_weights(); });
  return model_->finish_reload();
}

void LLM::abandon_reload() {
  model_->abandon_reload();
  follow_weights();
}

std::vector<int32_t> LLM::encode(std::string_view text) const {
  if (!tokenizer_)
    throw ConfigError(model_->folder().string() + ": has no tokenizer; give token ids instead of text");
  return tokenizer_->encode(text, {.add_special_tokens = true});
}

std::vector<int32_t> LLM::encode_chat(std::string_view chat_json) const {
  if (!tokenizer_)
    throw ConfigError(model_->folder().string() + ": has no tokenizer; give token ids instead of text");
  if (!chat_template_)
    throw ConfigError(model_->folder().string() + ": has no chat template; use a raw prompt");
  return octet::encode_chat(*tokenizer_, *chat_template_, chat_json);
}

std::vector<Generation> LLM::generate(std::span<const std::vector<int32_t>> prompts,
                                      const GenerateOptions& options, const TextCallback& on_text) {
  std::vector<Generation> results(prompts.size());
  GenerateCall call(*engine_, tokenizer(), on_text);
  try {
    for (size_t i = 0; i < prompts.size(); ++i) {
      results[i].prompt_ids = prompts[i];
      call.add(i, options, results[i]);
    }
    call.run();
  } catch (...) {
    call.cancel_all();
    throw;
  }
  return results;
}

Generation LLM::generate(const std::vector<int32_t>& prompt, const GenerateOptions& options,
                         const TextCallback& on_text) {
  return std::move(generate(std::span(&prompt, 1), options, on_text).front());
}

}  // namespace octet
