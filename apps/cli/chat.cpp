// SPDX-License-Identifier: Apache-2.0
/// octet chat: a conversation through the model's chat template.
#include <unistd.h>

#include "apps/cli/args.h"
#include "apps/cli/chat_commands.h"
#include "apps/cli/command.h"
#include "apps/cli/conversation.h"
#include "apps/cli/input.h"
#include "apps/cli/load.h"
#include "apps/cli/sampling_args.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"

namespace octet::cli {
namespace {

class Chat : public Command {
 public:
  void add_options(CLI::App& app) override {
    add_model_argument(app, args_.model);
    given_quick_ =
        app.add_option("-q,--quick", quick_, "one message, one answer, and the end")->type_name("MESSAGE");
    app.add_option("--system-prompt", system_prompt_, "the system message")->type_name("TEXT");
    state_.sampling.add_options(app);
    add_model_options(app, args_);
  }

  void run() override {
    const Console console(args_.console);
    const auto llm = load_model(args_, console);
    if (llm->tokenizer() == nullptr || llm->chat_template() == nullptr) {
      throw ConfigError(llm->model().folder().string() + ": has no " +
                        (llm->tokenizer() == nullptr ? "tokenizer" : "chat template") +
                        ", which a conversation needs; `octet generate` continues plain text");
    }
    state_.conversation.set_system(system_prompt_);
    if (console.is_verbose()) summarize_load(*llm, console);
    if (given_quick_->count() > 0) {
      answer(*llm, console, quick_);
    } else {
      converse(*llm, console);
    }
  }

  ModelArgs* model_args() override { return &args_; }

 private:
  void converse(LLM& llm, const Console& console) {
    const bool terminal = isatty(STDIN_FILENO) == 1;
    if (terminal) console.note("/help lists the commands; Ctrl-D ends");
    while (true) {
      if (terminal) console.show("> ");
      const auto line = read_line();
      if (!line || !take_line(llm, console, *line)) break;
    }
    if (terminal) console.show("\n");
  }

  /// False ends the conversation. At a terminal, what goes wrong with one line is said and the next one is
  /// read; a script ends there.
  bool take_line(LLM& llm, const Console& console, const std::string& line) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) return true;
    const bool terminal = isatty(STDIN_FILENO) == 1;
    try {
      if (line.starts_with('/')) return run_chat_command(state_, line, console);
      answer(llm, console, line);
    } catch (const Interrupted&) {
      if (!terminal) throw;
      forget_stop();
    } catch (const ClosedPipe&) {
      throw;
    } catch (const Error& error) {
      if (!terminal) throw;
      print_error(error.what());
    }
    return true;
  }

  /// Adds the message and the answer, or, when the model cannot take it, neither. A stopped answer stays as
  /// it is.
  void answer(LLM& llm, const Console& console, const std::string& message) {
    state_.conversation.add("user", message);
    std::string text;
    bool stopped = false;
    try {
      const std::vector<int32_t> ids = llm.encode_chat(state_.conversation.request());
      const GenerateOptions options = state_.sampling.over(llm.model().generation_config().sampling);
      const auto on_text = [&text](size_t, std::string_view part) {
        if (!part.empty()) write_out(part);
        text += part;
        return !stop_requested();
      };
      const Generation generation = llm.generate(ids, options, on_text);
      if (console.is_verbose()) summarize_generation(generation, console);
    } catch (const Interrupted&) {
      stopped = true;
    } catch (...) {
      state_.conversation.remove_last();
      throw;
    }
    if (!text.ends_with('\n')) write_out("\n");
    state_.conversation.add("assistant", text);
    if (stopped) throw Interrupted("stopped on request");
  }

  ModelArgs args_;
  ChatState state_;
  std::string quick_;
  std::string system_prompt_;
  const CLI::Option* given_quick_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_chat() {
  return std::make_unique<Chat>();
}

}  // namespace octet::cli
