// SPDX-License-Identifier: Apache-2.0
/// The program `octet`: a table of commands, and exit codes.
#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "apps/cli/build_info.h"
#include "apps/cli/command.h"
#include "apps/cli/console.h"
#include "apps/cli/ranks.h"
#include "apps/cli/signals.h"
#include "octet/base/cpu_features.h"
#include "octet/comm/factory.h"

namespace octet::cli {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;
constexpr int kInterrupted = 130;

struct Entry {
  const char* name;
  const char* summary;
  const char* examples;
  std::unique_ptr<Command> (*make)();
};

constexpr std::array kCommands = {
    Entry{"generate", "Continue a text or answer a prompt",
          "Examples:\n"
          "  octet generate -p \"Tell me about the sea\"\n"
          "  octet generate ./Llama-3.2-1B -p \"Once upon a time\" --raw-prompt -n 100\n"
          "  octet generate mistralai/Mistral-7B-v0.3 -p - --temperature 0 --json < question.txt\n"
          "  octet generate ./model --prompt-ids 1,15043 --quantization none --dtype float32\n",
          make_generate},
    Entry{"chat", "Talk with a model",
          "Examples:\n"
          "  octet chat\n"
          "  octet chat ./Llama-3.2-1B-Instruct --system-prompt \"Answer briefly.\"\n"
          "  octet chat ./Llama-3.2-1B-Instruct -q \"What is the capital of France?\"\n"
          "In a conversation: /help /clear /system TEXT /set NAME VALUE /save FILE /load FILE /bye\n",
          make_chat},
    Entry{"inspect", "Show what a model is and the memory it will take, before a weight is read",
          "Examples:\n"
          "  octet inspect ./Llama-3.1-8B\n"
          "  octet inspect ./Llama-3.1-8B --fp8-lm-head --kv-cache-dtype fp8 --json\n",
          make_inspect},
    Entry{"tokenize", "Turn text into token ids and back; render conversations",
          "Examples:\n"
          "  octet tokenize ./model \"Hello world\"\n"
          "  octet tokenize ./model - --json < book.txt\n"
          "  octet tokenize ./model --messages conversation.json\n"
          "  octet tokenize ./model --decode 1,15043,3186\n",
          make_tokenize},
    Entry{"logits", "Compute the logits at every position of a prompt",
          "Examples:\n"
          "  octet logits ./model --ids 1,2,3 --top 5\n"
          "  octet logits ./model --ids 1,2,3 --dtype float32 --quantization none --output logits.npy\n",
          make_logits},
    Entry{"evaluate", "Measure perplexity, and what FP8 costs against the unquantized model",
          "Examples:\n"
          "  octet evaluate ./Llama-3.1-8B --text book.txt\n"
          "  octet evaluate ./Llama-3.1-8B --text book.txt --fp8-lm-head --kv-cache-dtype fp8 --json\n",
          make_evaluate},
    Entry{"bench", "Measure speed, and what this machine allows",
          "Examples:\n"
          "  octet bench ./Llama-3.1-8B\n"
          "  octet bench ./Llama-3.1-8B -p 1024 -n 256 --threads 8 --json\n"
          "  octet bench ./folder-with-config-json --load-format dummy\n",
          make_bench},
    Entry{"quantize", "Write the model as an FP8 checkpoint, without ever holding it",
          "Examples:\n"
          "  octet quantize ./Llama-3.1-8B ./Llama-3.1-8B-FP8\n"
          "  octet quantize ./Llama-3.1-8B ./out --format fp8-block --quantization fp8_per_block\n"
          "  octet quantize ./Llama-3.1-8B ./out --format raw --fp8-lm-head --fp8-format e5m2\n",
          make_quantize},
};

constexpr const char* kProgramExamples =
    "Examples:\n"
    "  octet generate -p \"Tell me about the sea\"        the bundled model, its weights in FP8\n"
    "  octet inspect ./Llama-3.1-8B                     what fits, and what each option saves\n"
    "  octet generate ./Llama-3.1-8B -p \"Hello\" -n 64\n"
    "\n"
    "`octet COMMAND --help` explains a command. Results go to standard output, everything else to standard "
    "error.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n";

std::string version_text() {
  const BuildInfo build = build_info();
  std::string isas;
  for (const CpuIsa isa : supported_isas()) isas += (isas.empty() ? "" : ", ") + std::string(to_string(isa));
  return "octet " + std::string(build.version) + "\nbuilt by   " + std::string(build.compiler) + ", " +
         std::string(build.build_type) + "\nprocessor  " + cpu_name() + ", " +
         std::to_string(usable_cores()) + " cores to use\nkernels    " + isas + "\nprocesses  " +
         (has_mpi() ? "one, or several over MPI" : "one (built without MPI)") + "\n";
}

/// `octet help COMMAND` is `octet COMMAND --help`.
std::vector<std::string> normalized(std::vector<std::string> words) {
  if (words.empty()) return {"--help"};
  if (words.front() != "help") return words;
  words.erase(words.begin());
  words.emplace_back("--help");
  return words;
}

void check_command(const std::string& word) {
  if (word.starts_with('-')) return;
  std::string known;
  for (const Entry& entry : kCommands) {
    if (word == entry.name) return;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw UsageError("unknown command \"" + word + "\"; the commands are " + known);
}

class Program {
 public:
  Program() : app_("Run Hugging Face language models with their weights in FP8.", "octet") {
    app_.set_help_flag("-h,--help", "show this and exit");
    app_.set_version_flag("--version", version_text, "show version, build and processor, and exit");
    app_.require_subcommand(1);
    app_.footer(kProgramExamples);
    for (const Entry& entry : kCommands) {
      CLI::App* sub = app_.add_subcommand(entry.name, entry.summary);
      sub->footer(entry.examples);
      commands_.push_back(entry.make());
      commands_.back()->add_options(*sub);
      subcommands_.push_back(sub);
    }
  }

  int run(std::vector<std::string> words) {
    words = normalized(std::move(words));
    check_command(words.front());
    std::vector<std::string> reversed(words.rbegin(), words.rend());  // the order CLI11 takes
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForHelp&) {
      write_out(app_.help());
      return kDone;
    } catch (const CLI::CallForVersion&) {
      write_out(version_text());
      return kDone;
    } catch (const CLI::ParseError& error) {
      throw UsageError(error.what());
    }
    for (size_t i = 0; i < subcommands_.size(); ++i) {
      if (subcommands_[i]->parsed()) ranks_.run(*commands_[i]);
    }
    return kDone;
  }

  [[nodiscard]] const Ranks& ranks() const { return ranks_; }

  /// "octet generate", as far as it is known.
  [[nodiscard]] std::string name() const {
    for (const CLI::App* sub : subcommands_) {
      if (sub->parsed()) return "octet " + sub->get_name();
    }
    return "octet";
  }

 private:
  CLI::App app_;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<CLI::App*> subcommands_;
  Ranks ranks_;
};

struct Outcome {
  int exit_code = kFailed;
  std::string message;  ///< empty: nothing to say
};

/// What went wrong; call in a catch block.
Outcome outcome(const Program& program) {
  try {
    throw;
  } catch (const UsageError& error) {
    return {kWrongUsage,
            std::string(error.what()) + "\n`" + program.name() + " --help` explains the options."};
  } catch (const Interrupted&) {
    return {kInterrupted, "stopped"};
  } catch (const ClosedPipe&) {
    return {kDone, {}};
  } catch (const std::bad_alloc&) {
    return {kFailed, "out of memory; `octet inspect` shows what a model takes and which options save memory"};
  } catch (const std::exception& error) {
    return {kFailed, error.what()};
  }
}

/// Says it, once for all processes of a parallel run; returns the exit code.
int report(const Program& program) {
  const Outcome result = outcome(program);
  if (!result.message.empty() && program.ranks().speaks()) print_error(result.message);
  return result.exit_code;
}

int run_program(std::vector<std::string> words) {
  install_signal_handlers();
  Program program;
  try {
    return program.run(std::move(words));
  } catch (...) {
    const int code = report(program);
    if (code != kDone) program.ranks().end(code);
    return code;
  }
}

}  // namespace
}  // namespace octet::cli

int main(int argc, char** argv) {
  return octet::cli::run_program(std::vector<std::string>(argv + 1, argv + std::max(argc, 1)));
}
