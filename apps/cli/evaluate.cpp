// SPDX-License-Identifier: Apache-2.0
/// octet evaluate: what the stored weights cost in quality.
#include "octet/llm/evaluate.h"

#include <algorithm>
#include <optional>

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/input.h"
#include "apps/cli/load.h"
#include "apps/cli/load_display.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"

namespace octet::cli {
namespace {

std::string describe(const Evaluation& result) {
  Table table({{"measure"}, {"value", true}});
  table.add({"tokens", format_count(result.tokens)});
  table.add({"perplexity", format_number(result.perplexity, 4)});
  const auto add = [&](const char* measure, std::optional<double> value, int digits) {
    if (value) table.add({measure, format_number(*value, digits)});
  };
  add("reference perplexity", result.reference_perplexity, 4);
  add("perplexity ratio", result.perplexity_ratio(), 6);
  add("KL divergence, nats", result.kl_divergence, 6);
  if (result.top1_agreement) {
    table.add({"top-1 agreement", format_number(100 * *result.top1_agreement, 2) + " %"});
  }
  return table.text();
}

class Evaluate : public Command {
 public:
  void add_options(CLI::App& app) override {
    add_model_argument(app, args_.model);
    app.add_option("--text", text_, "the text; \"-\": standard input")->type_name("FILE")->required();
    given_window_ = add_number(app, "--window", evaluation_.window, NumberRange<int64_t>{2, kManyTokens},
                               "tokens read together (default 2048, at most the model's positions)");
    app.add_flag("--no-reference", no_reference_, "the perplexity alone, without the unquantized model");
    app.add_flag("--json", json_, "one JSON object");
    add_model_options(app, args_);
  }

  void run() override {
    const std::string text = read_file_or_input(text_);
    const Console console(args_.console);
    limit_context();
    const auto llm = load_model(args_, console);
    if (llm->tokenizer() == nullptr)
      throw ConfigError(llm->model().folder().string() + ": has no tokenizer, and a text needs one");
    const std::vector<int32_t> ids =
        llm->tokenizer()->encode(text, {.add_special_tokens = false, .parse_special = false});
    evaluation_.reference = !no_reference_;
    ShareDisplay display(console, "evaluating");
    evaluation_.progress = [&display](double share) {
      display.update(share);
      return !stop_requested();
    };
    const Evaluation result = evaluate(*llm, ids, evaluation_);
    if (json_) {
      Json json = result.to_json();
      if (args_.digest) json["digests"] = digests_json(*llm);
      write_json(json);
    } else {
      write_out(describe(result));
    }
    summarize_load(*llm, console);
  }

  ModelArgs* model_args() override { return &args_; }

 private:
  /// No cache beyond a window. A window that was asked for and does not fit is refused, a default one is cut.
  void limit_context() {
    const int64_t positions = args_.options.max_model_len.value_or(model_positions(args_));
    if (evaluation_.window > positions && given_window_->count() > 0) {
      throw ConfigError("--window: expected 2 to " + std::to_string(positions) +
                        " (the model's context), found " + std::to_string(evaluation_.window));
    }
    evaluation_.window = std::min(evaluation_.window, positions);
    args_.options.max_model_len = evaluation_.window;
  }

  ModelArgs args_;
  EvaluateOptions evaluation_;
  std::string text_;
  bool no_reference_ = false;
  bool json_ = false;
  const CLI::Option* given_window_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_evaluate() {
  return std::make_unique<Evaluate>();
}

}  // namespace octet::cli
