// SPDX-License-Identifier: Apache-2.0
/// octet bench: how fast a model runs, beside what the machine allows.
#include <algorithm>

#include "apps/cli/args.h"
#include "apps/cli/command.h"
#include "apps/cli/format.h"
#include "apps/cli/load.h"
#include "apps/cli/load_display.h"
#include "apps/cli/signals.h"
#include "apps/cli/summary.h"
#include "octet/llm/throughput.h"

namespace octet::cli {
namespace {

constexpr double kGiga = 1e9;

std::string rate_text(double rate) {
  return format_number(rate, rate < 100 ? 2 : 0);
}

std::string percent_text(double share) {
  return format_number(100 * share, 1) + " %";
}

std::string describe(const Throughput& result) {
  Table table({{"phase"}, {"tokens", true}, {"tokens/s", true}, {"ceiling", true}, {"of the ceiling", true}});
  const auto add = [&table](const char* name, const PhaseThroughput& phase) {
    table.add({name, format_count(phase.tokens), rate_text(phase.tokens_per_second),
               rate_text(phase.ceiling_tokens_per_second), percent_text(phase.ceiling_fraction())});
  };
  add("prefill", result.prefill);
  add("decode", result.decode);
  std::string batch;
  if (result.batch_decode) {
    const double ratio = result.batch_decode->tokens_per_second / result.decode.tokens_per_second;
    add("batch decode", *result.batch_decode);
    batch = "batch    " + format_count(result.batch_size) + " sequences together give " +
            format_number(ratio, 2) + " times the tokens of one\n";
  }
  const std::string raw =
      result.raw_read_bytes_per_second
          ? format_number(*result.raw_read_bytes_per_second / kGiga, 2) + " GB/s by reading alone"
          : std::string("no files to compare with");
  return table.text() + "\n" + batch + "load     " + format_number(result.load_seconds, 2) + " s, " +
         format_number(result.load_bytes_per_second / kGiga, 2) + " GB/s (" + raw + ")\n" +
         "memory   weights " + format_bytes(result.weights_bytes) + ", KV cache " +
         format_bytes(result.kv_cache_bytes) + ", at the peak " + format_bytes(result.peak_bytes) + "\n" +
         "machine  " + result.cpu + ", " + result.backend + "; reads these weights at " +
         format_number(result.read_bytes_per_second / kGiga, 1) + " GB/s, multiplies " +
         format_number(result.multiply_flops / kGiga, 0) + " Gflop/s\n";
}

class Bench : public Command {
 public:
  void add_options(CLI::App& app) override {
    const NumberRange<int64_t> positive{1, kManyTokens};
    add_model_argument(app, args_.model);
    given_prompt_ =
        add_number(app, "-p,--prompt-tokens", measure_.prompt_tokens, positive,
                   "tokens of the prompt (default 512, fewer where the model's context is shorter)");
    add_number(app, "-n,--new-tokens", measure_.new_tokens, positive, "tokens to generate (default 128)");
    add_number(app, "-b,--batch-size", measure_.batch_size, NumberRange<int64_t>{1, kManySequences},
               "sequences to decode together, beside one alone (default 1: only that)");
    add_number(app, "-r,--repetitions", measure_.repetitions, NumberRange<int64_t>{1, 1000},
               "runs, of which the median counts (default 3)");
    app.add_flag("--json", json_, "one JSON object");
    add_model_options(app, args_);
  }

  void run() override {
    const Console console(args_.console);
    limit_context();
    args_.options.max_num_seqs = std::max(args_.options.max_num_seqs, measure_.batch_size);
    const auto llm = load_model(args_, console);
    ShareDisplay display(console, "measuring");
    measure_.progress = [&](double share) {
      display.update(share);
      return !stop_requested();
    };
    const Throughput result = measure_throughput(*llm, measure_);
    if (json_) {
      Json json = result.to_json();
      if (args_.digest) json["digests"] = digests_json(*llm);
      write_json(json);
    } else {
      write_out(describe(result));
    }
  }

  ModelArgs* model_args() override { return &args_; }

 private:
  /// No cache beyond what is measured. A prompt that was asked for and does not fit is left to be refused.
  void limit_context() {
    const int64_t positions = args_.options.max_model_len.value_or(model_positions(args_));
    const int64_t room = positions - measure_.new_tokens - 1;
    if (given_prompt_->count() == 0 && room >= 1)
      measure_.prompt_tokens = std::min(measure_.prompt_tokens, room);
    const int64_t needed = measure_.prompt_tokens + measure_.new_tokens + 1;
    if (!args_.options.max_model_len && needed <= positions) args_.options.max_model_len = needed;
  }

  ModelArgs args_;
  ThroughputOptions measure_;
  bool json_ = false;
  const CLI::Option* given_prompt_ = nullptr;
};

}  // namespace

std::unique_ptr<Command> make_bench() {
  return std::make_unique<Bench>();
}

}  // namespace octet::cli
