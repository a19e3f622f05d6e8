// SPDX-License-Identifier: Apache-2.0
/// octet tokenize: text to ids and back, conversations to prompts.
#include <filesystem>

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/input.h"
#include "apps/cli/model_location.h"
#include "octet/base/json.h"
#include "octet/text/chat_prompt.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {
namespace {

Json pieces_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Json pieces = Json::array();
  for (const int32_t id : ids) pieces.push_back(tokenizer.piece(id));
  return pieces;
}

class Tokenize : public Command {
 public:
  void add_options(CLI::App& app) override {
    app.add_option("MODEL", positionals_,
                   "[MODEL] TEXT: a model as in the other commands, and a text (\"-\": standard input)")
        ->type_name("")
        ->expected(0, 2);
    CLI::Option* messages =
        app.add_option(
               "--messages", messages_,
               "render the conversation in this JSON file (\"-\": standard input) through the chat template")
            ->type_name("FILE");
    app.add_option("--decode", decode_, "the text of these ids")->type_name("1,2,3")->excludes(messages);
    app.add_flag("--no-special-tokens", no_special_tokens_,
                 "leave out what the model expects around a text (BOS and the like)");
    app.add_flag("--json", json_, "one JSON object: ids, pieces, text");
    add_console_options(app, console_);
    given_messages_ = messages;
    given_decode_ = app.get_option("--decode");
  }

  void run() override {
    const bool has_text = given_messages_->count() + given_decode_->count() == 0;
    const std::vector<int32_t> decoded =
        given_decode_->count() > 0 ? parse_ids(decode_, "--decode") : std::vector<int32_t>();
    if (has_text) take_text();
    if (positionals_.size() > 1)
      throw UsageError("expected [MODEL] alone beside --messages or --decode, found a text as well");
    const std::filesystem::path folder = find_model(positionals_.empty() ? "" : positionals_.front());
    if (given_messages_->count() > 0) {
      show_messages(folder);
      return;
    }
    const Tokenizer tokenizer = Tokenizer::open(folder);
    if (has_text) {
      show_ids(tokenizer, tokenizer.encode(text_, !no_special_tokens_), text_);
    } else {
      show_decoded(tokenizer, decoded);
    }
  }

 private:
  /// The last positional argument is the text.
  void take_text() {
    if (positionals_.empty()) throw UsageError("give a TEXT, --messages FILE or --decode 1,2,3");
    text_ = positionals_.back();
    positionals_.pop_back();
    std::error_code ignored;
    if (positionals_.empty() && std::filesystem::is_directory(text_, ignored)) {
      throw UsageError("\"" + text_ + "\" is a folder, so it is taken for the MODEL; give a TEXT after it");
    }
    if (text_ == "-") text_ = read_standard_input();
  }

  void show_ids(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const std::string& text) const {
    if (json_) {
      write_json({{"ids", ids}, {"pieces", pieces_of(tokenizer, ids)}, {"text", text}});
      return;
    }
    Table table({{"id", true}, {"piece"}});
    for (const int32_t id : ids) table.add({std::to_string(id), tokenizer.piece(id)});
    write_out(table.text());
  }

  void show_decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) const {
    const std::string text = tokenizer.decode(ids, no_special_tokens_);
    if (json_) {
      write_json({{"ids", ids}, {"pieces", pieces_of(tokenizer, ids)}, {"text", text}});
    } else {
      write_out(text + "\n");
    }
  }

  void show_messages(const std::filesystem::path& folder) const {
    const auto chat_template = ChatTemplate::open(folder);
    if (!chat_template)
      throw ConfigError(
          folder.string() +
          ": has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)");
    const std::string source = messages_ == "-" ? "standard input" : messages_;
    Json request = parse_json(read_file_or_input(messages_), source);
    if (request.is_array()) request = {{"messages", std::move(request)}};
    const std::string prompt = chat_template->render(request.dump());
    if (!json_) {
      write_out(prompt);
      return;
    }
    const Tokenizer tokenizer = Tokenizer::open(folder);
    show_ids(tokenizer, encode_chat(tokenizer, *chat_template, request.dump()), prompt);
  }

  std::vector<std::string> positionals_;
  std::string text_;
  std::string messages_;
  std::string decode_;
  bool no_special_tokens_ = false;
  bool json_ = false;
  Console::Options console_;
  const CLI::Option* given_messages_ = nullptr;
  const CLI::Option* given_decode_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_tokenize() {
  return std::make_unique<Tokenize>();
}

}  // namespace octet::cli
