// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/conversation.h"

#include <utility>

#include "octet/base/error.h"

namespace octet::cli {
namespace {

std::string dump(const Json& json, int indent) {
  try {
    return json.dump(indent);
  } catch (const Json::exception&) {
    throw ArgumentError("the conversation: expected text in UTF-8, found other bytes");
  }
}

bool is_message(const Json& message) {
  return message.is_object() && message.contains("role") && message["role"].is_string() &&
         message.contains("content") && message["content"].is_string();
}

}  // namespace

bool Conversation::has_system() const {
  return !messages_.empty() && messages_.front()["role"] == "system";
}

void Conversation::set_system(std::string text) {
  if (has_system()) messages_.erase(0);
  if (text.empty()) return;
  messages_.insert(messages_.begin(), Json{{"role", "system"}, {"content", std::move(text)}});
}

void Conversation::add(std::string_view role, std::string text) {
  messages_.push_back({{"role", role}, {"content", std::move(text)}});
}

void Conversation::remove_last() {
  messages_.erase(messages_.size() - 1);
}

void Conversation::clear() {
  const size_t keep = has_system() ? 1 : 0;
  while (messages_.size() > keep) remove_last();
}

std::string Conversation::request() const {
  return dump({{"messages", messages_}, {"add_generation_prompt", true}}, -1);
}

std::string Conversation::to_text() const {
  return dump({{"messages", messages_}}, 1) + "\n";
}

Conversation Conversation::from_text(std::string_view text, const std::string& source) {
  Json json = parse_json(text, source);
  Json messages = json.is_object() && json.contains("messages") ? json["messages"] : std::move(json);
  bool good = messages.is_array();
  for (const Json& message : messages) good = good && is_message(message);
  if (!good)
    throw FormatError(
        source + ": expected {\"messages\": [{\"role\": ..., \"content\": TEXT}, ...]}, found other JSON");
  Conversation conversation;
  conversation.messages_ = std::move(messages);
  return conversation;
}

}  // namespace octet::cli
