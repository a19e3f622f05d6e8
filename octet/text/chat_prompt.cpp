// SPDX-License-Identifier: Apache-2.0
#include "octet/text/chat_prompt.h"

#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

/// The special tokens of tekken.json: its first ids.
class SpecialTokens {
 public:
  struct Token {
    std::string text;
    int32_t id = 0;
  };

  explicit SpecialTokens(const Tokenizer& tokenizer) {
    for (int32_t id = 0; id < tokenizer.vocab_size() && tokenizer.decode(std::span(&id, 1)).empty(); ++id) {
      std::string text = tokenizer.piece(id);
      if (text.empty()) continue;
      begins_[static_cast<unsigned char>(text.front())] = true;
      tokens_.push_back({std::move(text), id});
    }
    std::ranges::stable_sort(tokens_, std::greater<>(), [](const Token& token) { return token.text.size(); });
  }

  /// The longest that `text` begins with, or nullptr.
  [[nodiscard]] const Token* at_front(std::string_view text) const {
    if (!begins_[static_cast<unsigned char>(text.front())]) return nullptr;
    const auto it =
        std::ranges::find_if(tokens_, [&](const Token& token) { return text.starts_with(token.text); });
    return it == tokens_.end() ? nullptr : &*it;
  }

 private:
  std::vector<Token> tokens_;  // longest first
  std::array<bool, 256> begins_{};
};

void for_each_string(Json& value, const std::function<void(std::string&)>& action) {
  if (value.is_string()) action(value.get_ref<std::string&>());
  if (!value.is_structured()) return;
  for (Json& item : value) for_each_string(item, action);
}

/// U+FDD0 to U+FDEF, which no text is meant to have: the first that this one has not.
std::string unused_mark(std::string_view text) {
  for (int last = 0x90; last <= 0xaf; ++last) {
    const std::string mark = {'\xef', '\xb7', static_cast<char>(last)};
    if (text.find(mark) == std::string_view::npos) return mark;
  }
  throw ArgumentError("chat request: has every noncharacter from U+FDD0 to U+FDEF");
}

class PlainContent {
 public:
  PlainContent(const Tokenizer& tokenizer, std::string_view request)
      : tokenizer_(tokenizer), tokens_(tokenizer), mark_(unused_mark(request)) {}

  /// Parts the names of special tokens in every string of the request, so that none is found in the prompt.
  [[nodiscard]] std::string marked(std::string_view request) const {
    Json json = parse_json(request, "chat request");
    for_each_string(json, [&](std::string& text) {
      std::string parted;
      for (size_t at = 0; at < text.size(); ++at) {
        parted += text[at];
        if (tokens_.at_front(std::string_view(text).substr(at)) != nullptr) parted += mark_;
      }
      text = std::move(parted);
    });
    return json.dump();
  }

  [[nodiscard]] std::vector<int32_t> encode(std::string_view prompt) const {
    std::vector<int32_t> ids;
    std::string text;
    const auto flush = [&] {
      const EncodeOptions plain{.add_special_tokens = false, .parse_special = false};
      const std::vector<int32_t> more = tokenizer_.encode(std::exchange(text, {}), plain);
      ids.insert(ids.end(), more.begin(), more.end());
    };
    while (!prompt.empty()) {
      if (const SpecialTokens::Token* token = tokens_.at_front(prompt); token != nullptr) {
        flush();
        ids.push_back(token->id);
        prompt.remove_prefix(token->text.size());
      } else if (prompt.starts_with(mark_)) {
        prompt.remove_prefix(mark_.size());
      } else {
        text += prompt.front();
        prompt.remove_prefix(1);
      }
    }
    flush();
    return ids;
  }

 private:
  const Tokenizer& tokenizer_;
  SpecialTokens tokens_;
  std::string mark_;
};

}  // namespace

std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                 std::string_view request_json) {
  if (!tokenizer.keeps_content_plain())
    return tokenizer.encode(chat_template.render(request_json), {.add_special_tokens = false});
  const PlainContent content(tokenizer, request_json);
  return content.encode(chat_template.render(content.marked(request_json)));
}

}  // namespace octet
