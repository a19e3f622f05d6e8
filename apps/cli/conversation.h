// SPDX-License-Identifier: Apache-2.0
/// The messages of a conversation, as chat templates take them.
#pragma once

#include <string>
#include <string_view>

#include "octet/base/json.h"

namespace octet::cli {

class Conversation {
 public:
  /// The first message; an empty text removes it.
  void set_system(std::string text);
  void add(std::string_view role, std::string text);
  void remove_last();
  /// All but the system message.
  void clear();

  [[nodiscard]] size_t size() const { return messages_.size(); }
  /// What ChatTemplate::render takes, ending with the beginning of an answer.
  /// Throws ArgumentError when a message is not UTF-8.
  [[nodiscard]] std::string request() const;

  /// {"messages": [...]}.
  [[nodiscard]] std::string to_text() const;
  /// Throws FormatError naming `source` when the text is no such conversation.
  static Conversation from_text(std::string_view text, const std::string& source);

 private:
  [[nodiscard]] bool has_system() const;
  Json messages_ = Json::array();
};

}  // namespace octet::cli
