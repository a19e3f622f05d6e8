// SPDX-License-Identifier: Apache-2.0
/// Conversations to prompts: the chat templates of a model folder, rendered byte for byte as transformers
/// does.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct OctetTextTemplate;

namespace octet {

/// The chat template, or the set of named ones, of a model folder. Movable, not copyable; const methods may
/// be called from several threads at once.
class ChatTemplate {
 public:
  /// Reads and compiles chat_template.jinja and additional_chat_templates/*.jinja; without those,
  /// `chat_template` of tokenizer_config.json (a text, or a list of {name, template}). Special tokens come
  /// from tokenizer_config.json and special_tokens_map.json. Nothing where the folder has no template. Throws
  /// FormatError naming the file, and the line where a template cannot be compiled.
  static std::optional<ChatTemplate> open(const std::filesystem::path& folder);

  /// The prompt for `request_json`, an object with
  ///   messages               a list of objects, at least one; top-level nulls in a message count as absent
  ///   tools, documents       lists of objects, or null
  ///   add_generation_prompt  end with the beginning of an answer (default false)
  ///   continue_final_message true, or the name of a field: end inside the last message, to be continued
  ///   chat_template          the name of a template; else "tool_use" where there are tools and such a
  ///   template, else
  ///                          "default"
  /// and further template variables, which win over special tokens of the same name.
  /// Throws ArgumentError when the request is not such an object, and ConfigError when the template fails,
  /// with the file and the line; where the template refuses the conversation (raise_exception), the message
  /// ends with the template's own words. A template that runs without end or produces without bound fails
  /// likewise.
  std::string render(std::string_view request_json) const;

 private:
  struct Close {
    void operator()(OctetTextTemplate* handle) const;
  };
  explicit ChatTemplate(OctetTextTemplate* handle) : handle_(handle) {}

  std::unique_ptr<OctetTextTemplate, Close> handle_;
};

}  // namespace octet
