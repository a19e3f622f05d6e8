// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer.h"

#include "octet/text/abi.h"
#include "octet/text/reply.h"

namespace octet {

using text::call;
using text::ids_from;
using text::slice;

namespace {

std::optional<int32_t> mark(const OctetTextTokenizer* handle, size_t which) {
  const auto marks = ids_from(call([&](OctetTextReply* reply) { return octet_text_marks(handle, reply); }));
  if (marks.at(which) < 0) return std::nullopt;
  return marks.at(which);
}

}  // namespace

void Tokenizer::Close::operator()(const OctetTextTokenizer* handle) const {
  octet_text_tokenizer_close(handle);
}

Tokenizer Tokenizer::open(const std::filesystem::path& folder) {
  const OctetTextTokenizer* handle = nullptr;
  call([&](OctetTextReply* reply) {
    return octet_text_tokenizer_open(slice(folder.native()), &handle, reply);
  });
  const bool tekken =
      std::filesystem::exists(folder / "tekken.json") && !std::filesystem::exists(folder / "tokenizer.json");
  return {handle, tekken};
}

bool Tokenizer::present(const std::filesystem::path& folder) {
  return octet_text_tokenizer_present(slice(folder.native()));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return ids_from(call([&](OctetTextReply* reply) {
    return octet_text_encode(handle_.get(), slice(text), options.add_special_tokens, options.parse_special,
                             reply);
  }));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  return encode(text, EncodeOptions{.add_special_tokens = add_special_tokens});
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  return call([&](OctetTextReply* reply) {
    return octet_text_decode(handle_.get(), ids.data(), ids.size(), skip_special_tokens, reply);
  });
}

std::string Tokenizer::piece(int32_t id) const {
  return call([&](OctetTextReply* reply) { return octet_text_piece(handle_.get(), id, reply); });
}

int64_t Tokenizer::vocab_size() const {
  return octet_text_vocab_size(handle_.get());
}

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  const auto found = ids_from(call(
      [&](OctetTextReply* reply) { return octet_text_token_to_id(handle_.get(), slice(token), reply); }));
  if (found.empty()) return std::nullopt;
  return found.front();
}

std::optional<int32_t> Tokenizer::bos_token_id() const {
  return mark(handle_.get(), 0);
}

std::optional<int32_t> Tokenizer::eos_token_id() const {
  return mark(handle_.get(), 1);
}

void IncrementalDecoder::Close::operator()(OctetTextDecoder* decoder) const {
  octet_text_decoder_close(decoder);
}

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : decoder_(octet_text_decoder_open(tokenizer.handle_.get(), skip_special_tokens)) {}

std::string IncrementalDecoder::push(int32_t id) {
  return call([&](OctetTextReply* reply) { return octet_text_decoder_push(decoder_.get(), id, reply); });
}

std::string IncrementalDecoder::finish() {
  return call([&](OctetTextReply* reply) { return octet_text_decoder_finish(decoder_.get(), reply); });
}

}  // namespace octet
