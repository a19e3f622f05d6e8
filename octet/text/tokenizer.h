// SPDX-License-Identifier: Apache-2.0
/// Text to token ids and back, exactly as Hugging Face tokenizers does it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct OctetTextTokenizer;
struct OctetTextDecoder;

namespace octet {

/// How a text becomes ids.
struct EncodeOptions {
  /// Put the tokens around the text that the model expects (BOS and the like).
  bool add_special_tokens = true;
  /// Names of special tokens inside the text stand for the tokens. Set to false for text of unknown origin:
  /// they are then encoded as ordinary text.
  bool parse_special = true;
};

/// The tokenizer of a model folder. Movable, not copyable; const methods may be called from several threads
/// at once.
class Tokenizer {
 public:
  /// Reads tokenizer.json (else tekken.json, Mistral's own, else vocab.json with merges.txt, as GPT-2 and OPT
  /// have them), tokenizer_config.json
  /// and special_tokens_map.json, as transformers 5 does: `add_bos_token` and `add_eos_token` count only
  /// where there is no tokenizer.json, else what tokenizer.json puts around a text stands; and a
  /// `LlamaTokenizer` of SentencePiece kind (tokenizer_class, with model_type "llama" in config.json) does
  /// not double a text's first blank. Throws FormatError naming the file and field when one is missing,
  /// broken or contradicts itself.
  static Tokenizer open(const std::filesystem::path& folder);

  /// Whether `folder` has the files that `open` reads. Does not look into them.
  static bool present(const std::filesystem::path& folder);

  /// The ids of `text`, which must be UTF-8: throws ArgumentError with the offset of the first invalid byte.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// The same with `add_special_tokens` alone.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// The text of `ids`, always valid UTF-8: bytes that make no character become U+FFFD. An id within the
  /// vocabulary that has no token gives nothing. Throws ArgumentError naming the first id outside of [0,
  /// vocab_size()).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// The token as the vocabulary spells it (with its marks for blanks); empty for an id without a token.
  /// Throws ArgumentError for an id outside of [0, vocab_size()).
  std::string piece(int32_t id) const;

  /// The highest id + 1, added tokens included.
  int64_t vocab_size() const;

  /// The id of the token that is spelled exactly so.
  std::optional<int32_t> token_to_id(std::string_view token) const;

  /// Whether names of special tokens inside messages are text: a tokenizer from tekken.json, as Mistral's own
  /// package has it.
  bool keeps_content_plain() const { return keeps_content_plain_; }

  /// The ids of `bos_token` and `eos_token` of tokenizer_config.json, if given and in the vocabulary.
  std::optional<int32_t> bos_token_id() const;
  std::optional<int32_t> eos_token_id() const;

 private:
  friend class IncrementalDecoder;
  struct Close {
    void operator()(const OctetTextTokenizer* handle) const;
  };
  Tokenizer(const OctetTextTokenizer* handle, bool keeps_content_plain)
      : handle_(handle), keeps_content_plain_(keeps_content_plain) {}

  std::unique_ptr<const OctetTextTokenizer, Close> handle_;
  bool keeps_content_plain_;
};

/// Decodes a growing sequence token by token; the pieces put together are the decoded sequence. Never gives
/// half a character, and blanks as in the whole text. The cost of a step does not depend on the steps before.
/// Keeps what it needs of the tokenizer alive. One thread at a time.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = true);

  /// The text that has become certain with `id`; may be empty. Throws ArgumentError as `Tokenizer::decode`;
  /// the decoder is then as before.
  std::string push(int32_t id);

  /// The rest: U+FFFD for bytes that never became a character. The decoder is then as new.
  std::string finish();

 private:
  struct Close {
    void operator()(OctetTextDecoder* decoder) const;
  };
  std::unique_ptr<OctetTextDecoder, Close> decoder_;
};

}  // namespace octet
