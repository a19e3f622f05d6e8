// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/chat_commands.h"

#include <array>
#include <charconv>
#include <utility>

#include "apps/cli/output_file.h"
#include "octet/base/file_reader.h"

namespace octet::cli {
namespace {

constexpr std::string_view kHelp =
    "/clear              forget the conversation, keep the system message\n"
    "/system TEXT        set the system message (no TEXT: remove it)\n"
    "/set NAME VALUE     temperature, top_p, top_k, min_p, seed or max_tokens\n"
    "/save FILE          write the conversation as JSON\n"
    "/load FILE          read one that was saved\n"
    "/bye                end (or Ctrl-D); Ctrl-C stops an answer\n";

/// The first word, and the rest without the blanks around it.
std::pair<std::string, std::string> split_word(const std::string& text) {
  constexpr const char* kBlanks = " \t\r";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string::npos) return {};
  const size_t end = text.find_first_of(kBlanks, first);
  if (end == std::string::npos) return {text.substr(first), {}};
  const size_t rest = text.find_first_not_of(kBlanks, end);
  if (rest == std::string::npos) return {text.substr(first, end - first), {}};
  return {text.substr(first, end - first), text.substr(rest, text.find_last_not_of(kBlanks) - rest + 1)};
}

template <class T>
T parse_value(const std::string& name, const std::string& text, T min, T max) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= min && value <= max) return value;
  throw ArgumentError("/set " + name + ": expected a number from " + std::to_string(min) + " to " +
                      std::to_string(max) + ", found \"" + text + "\"");
}

void set_value(SamplingArgs& sampling, const std::string& name, const std::string& text) {
  constexpr int64_t kMany = int64_t{1} << 31;
  if (name == "temperature") {
    sampling.temperature = parse_value(name, text, 0.0, 1e6);
  } else if (name == "top_p") {
    sampling.top_p = parse_value(name, text, 0.0, 1.0);
  } else if (name == "min_p") {
    sampling.min_p = parse_value(name, text, 0.0, 1.0);
  } else if (name == "top_k") {
    sampling.top_k = parse_value(name, text, int64_t{0}, kMany);
  } else if (name == "max_tokens") {
    sampling.max_tokens = parse_value(name, text, int64_t{1}, kMany);
  } else if (name == "seed") {
    sampling.seed = parse_value(name, text, uint64_t{0}, ~uint64_t{0});
  } else {
    throw ArgumentError("/set: expected temperature, top_p, top_k, min_p, seed or max_tokens, found \"" +
                        name + "\"");
  }
}

std::string required(const std::string& command, const std::string& rest) {
  if (rest.empty()) throw ArgumentError(command + ": give the name of a file");
  return rest;
}

void save(const Conversation& conversation, const std::string& path) {
  OutputFile file(path);
  file.write(conversation.to_text());
  file.commit();
}

}  // namespace

bool run_chat_command(ChatState& state, const std::string& line, const Console& console) {
  const auto [command, rest] = split_word(line);
  if (command == "/bye") return false;
  if (command == "/help" || command == "/?") {
    console.show(kHelp);
  } else if (command == "/clear") {
    state.conversation.clear();
  } else if (command == "/system") {
    state.conversation.set_system(rest);
  } else if (command == "/set") {
    const auto [name, value] = split_word(rest);
    set_value(state.sampling, name, value);
  } else if (command == "/save") {
    save(state.conversation, required(command, rest));
  } else if (command == "/load") {
    state.conversation = Conversation::from_text(read_text_file(required(command, rest)), rest);
  } else {
    throw ArgumentError("unknown command " + command + "; /help lists them");
  }
  return true;
}

}  // namespace octet::cli
