// SPDX-License-Identifier: Apache-2.0
/// The face of Octet: open a folder, text in, text out. The only part that knows all others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/engine/engine.h"
#include "octet/llm/model.h"
#include "octet/text/chat_template.h"
#include "octet/text/tokenizer.h"

namespace octet {

struct LlmOptions {
  ModelOptions model;
  std::optional<DType> kv_cache_dtype;     ///< nullopt: the model's dtype
  std::optional<int64_t> kv_cache_memory;  ///< bytes, of each rank; nullopt: what max_model_len x
                                           ///< max_num_seqs needs, at most what is left
  std::optional<int64_t>
      max_model_len;  ///< nullopt: the model's positions, or fewer where the cache is smaller
  int64_t max_num_seqs = 1;
};

struct GenerateOptions {
  SamplingParams sampling;
  std::vector<std::string> stop;  ///< texts that end the generation; not part of it
};

struct Generation {
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> ids;  ///< the new tokens
  std::string text;          ///< empty without a tokenizer
  FinishReason finish_reason = FinishReason::kLength;
  double prefill_seconds = 0;  ///< to the first new token
  double decode_seconds = 0;   ///< from there to the last
};

/// Receives text as it becomes certain, with the index of its prompt. Returning false stops all generation:
/// the call then throws Interrupted. `text` may be empty (an id without text yet, or a model without a
/// tokenizer).
using TextCallback = std::function<bool(size_t prompt, std::string_view text)>;

/// How large cache and context will be, known before loading.
struct CachePlan {
  DType dtype = DType::kBF16;
  int64_t max_model_len = 0;
  int64_t tokens = 0;
  int64_t bytes_per_token = 0;
  [[nodiscard]] int64_t bytes() const { return tokens * bytes_per_token; }
};

/// As rank 0's options say, and as much as fits on every rank. Called on all ranks at once. Throws
/// ConfigError when the asked context fits neither the model nor the memory, with all numbers.
[[nodiscard]] CachePlan plan_cache(Model& model, const LlmOptions& options);

/// Not thread-safe: one call at a time. Of a model that is cut, the LLM of rank 0 does what is below, and
/// those of the other ranks `follow` it (follow.h).
class LLM {
 public:
  /// Opens and loads. A folder without a tokenizer can still work on token ids.
  LLM(const std::filesystem::path& folder, const LlmOptions& options);
  ~LLM();

  [[nodiscard]] Model& model() { return *model_; }
  [[nodiscard]] Engine& engine() { return *engine_; }
  /// nullptr when the folder has none.
  [[nodiscard]] const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  [[nodiscard]] const ChatTemplate* chat_template() const {
    return chat_template_ ? &*chat_template_ : nullptr;
  }

  /// New weights (see Model::reload); drops the KV cache: what runs is computed anew. Where the model is left
  /// incomplete, every step throws DeviceError saying so until a reload succeeds.
  const LoadReport& reload(const WeightSource& source, const ReloadOptions& options);
  /// From a folder in Hugging Face layout.
  const LoadReport& reload(const std::filesystem::path& folder, const ReloadOptions& options);
  /// For weights that are pushed into the returned loader. In place all steps are refused until the end; with
  /// a second copy they go on with the old weights. Neither is called beside a step.
  WeightLoader& begin_reload(const ReloadOptions& options, std::vector<SourceTensor> announced = {});
  const LoadReport& finish_reload();
  void abandon_reload();

  /// The ids of a prompt; `chat_json` is rendered through the model's template first.
  /// Throw ConfigError when the folder lacks a tokenizer or a template.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text) const;
  [[nodiscard]] std::vector<int32_t> encode_chat(std::string_view chat_json) const;

  /// One completion for each prompt; all run together as far as max_num_seqs allows.
  [[nodiscard]] std::vector<Generation> generate(std::span<const std::vector<int32_t>> prompts,
                                                 const GenerateOptions& options,
                                                 const TextCallback& on_text = {});
  [[nodiscard]] Generation generate(const std::vector<int32_t>& prompt, const GenerateOptions& options,
                                    const TextCallback& on_text = {});

 private:
  /// Lets the engine work, or not, as the model's weights are.
  void follow_weights();

  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::unique_ptr<Engine> engine_;
};

/// The tokenizer of a folder, or nothing when it has none. Throws ConfigError when its ids do not fit
/// `vocab_size`.
[[nodiscard]] std::optional<Tokenizer> open_tokenizer(const std::filesystem::path& folder,
                                                      int64_t vocab_size);

}  // namespace octet
