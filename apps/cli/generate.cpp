// SPDX-License-Identifier: Apache-2.0
/// octet generate: one completion.
#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/conversation.h"
#include "apps/cli/input.h"
#include "apps/cli/load.h"
#include "apps/cli/sampling_args.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"

namespace octet::cli {
namespace {

std::string joined(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

Json generation_json(LLM& llm, const Generation& generation, const SamplingParams& sampling) {
  return {{"prompt_ids", generation.prompt_ids},
          {"ids", generation.ids},
          {"text", generation.text},
          {"finish_reason", generation.finish_reason == FinishReason::kStop ? "stop" : "length"},
          {"seed", sampling.seed},
          {"timings",
           {{"load_seconds", llm.model().load_report().seconds},
            {"prefill_seconds", generation.prefill_seconds},
            {"decode_seconds", generation.decode_seconds},
            {"tokens_per_second", decode_rate(generation)}}},
          {"memory", memory_json(llm)},
          {"savings", to_json(loaded_savings(llm))}};
}

class Generate : public Command {
 public:
  void add_options(CLI::App& app) override {
    add_model_argument(app, args_.model);
    CLI::Option* prompt = app.add_option("-p,--prompt", prompt_,
                                         "what the model continues or answers; \"-\" reads standard input "
                                         "(one newline at its end is dropped)")
                              ->type_name("TEXT");
    CLI::Option* ids =
        app.add_option("--prompt-ids", prompt_ids_, "the prompt as token ids; needs no tokenizer")
            ->type_name("1,2,3")
            ->excludes(prompt);
    app.add_flag("--raw-prompt", raw_prompt_, "do not put the prompt into the model's chat template")
        ->excludes(ids);
    sampling_.add_options(app);
    app.add_flag("--json", json_, "one JSON object: ids, text, finish reason, timings, memory");
    add_model_options(app, args_);
    given_prompt_ = prompt;
    given_ids_ = ids;
  }

  void run() override {
    if (given_prompt_->count() + given_ids_->count() == 0)
      throw UsageError("give a prompt: -p TEXT, -p - or --prompt-ids 1,2,3");
    const Console console(args_.console);
    std::vector<int32_t> ids;
    if (given_ids_->count() > 0) ids = parse_ids(prompt_ids_, "--prompt-ids");
    if (prompt_ == "-") prompt_ = without_last_newline(read_standard_input());
    const auto llm = load_model(args_, console);
    if (given_prompt_->count() > 0) ids = encode_prompt(*llm);
    const GenerateOptions options = sampling_.over(llm->model().generation_config().sampling);
    console.detail("seed       " + std::to_string(options.sampling.seed));
    const Generation generation = complete(*llm, ids, options);
    summarize_load(*llm, console);
    summarize_generation(generation, console);
  }

  ModelArgs* model_args() override { return &args_; }

 private:
  static std::string without_last_newline(std::string text) {
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
  }

  [[nodiscard]] std::vector<int32_t> encode_prompt(const LLM& llm) const {
    if (raw_prompt_ || llm.chat_template() == nullptr) return llm.encode(prompt_);
    Conversation conversation;
    conversation.add("user", prompt_);
    return llm.encode_chat(conversation.request());
  }

  Generation complete(LLM& llm, const std::vector<int32_t>& ids, const GenerateOptions& options) const {
    bool at_line_start = true;
    const auto on_text = [&](size_t, std::string_view text) {
      if (!json_ && !text.empty()) {
        write_out(text);
        at_line_start = text.ends_with('\n');
      }
      return !stop_requested();
    };
    Generation generation;
    try {
      generation = llm.generate(ids, options, on_text);
    } catch (const Interrupted&) {
      if (!at_line_start) write_out("\n");
      throw;
    }
    if (json_) {
      Json json = generation_json(llm, generation, options.sampling);
      if (args_.digest) json["digests"] = digests_json(llm);
      write_json(json);
    } else if (llm.tokenizer() == nullptr) {
      write_out(joined(generation.ids) + "\n");
    } else if (!at_line_start || generation.text.empty()) {
      write_out("\n");
    }
    return generation;
  }

  ModelArgs args_;
  SamplingArgs sampling_;
  std::string prompt_;
  std::string prompt_ids_;
  bool raw_prompt_ = false;
  bool json_ = false;
  const CLI::Option* given_prompt_ = nullptr;
  const CLI::Option* given_ids_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_generate() {
  return std::make_unique<Generate>();
}

}  // namespace octet::cli
