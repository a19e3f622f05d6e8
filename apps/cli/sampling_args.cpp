// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/sampling_args.h"

#include <limits>
#include <random>

#include "apps/cli/args.h"

namespace octet::cli {

void SamplingArgs::add_options(CLI::App& app) {
  app.option_defaults()->group("Choosing tokens");
  add_number(app, "-n,--max-tokens", max_tokens, NumberRange<int64_t>{1, kManyTokens},
             "new tokens at most (default 256)");
  add_number(app, "--temperature", temperature, NumberRange<double>{0, 1e6},
             "0: always the likeliest token (default: generation_config.json)");
  add_number(app, "--top-p", top_p, NumberRange<double>{0, 1},
             "only the likeliest tokens that together have this probability");
  add_number(app, "--top-k", top_k, NumberRange<int64_t>{0, kManyTokens},
             "only the N likeliest tokens; 0: all");
  add_number(app, "--min-p", min_p, NumberRange<double>{0, 1},
             "only tokens at least N times as likely as the likeliest");
  add_number(app, "--seed", seed, NumberRange<uint64_t>{0, std::numeric_limits<uint64_t>::max()},
             "of the random numbers: the same seed, the same text (default: a new one)");
  app.add_option("--stop", stop, "text that ends the answer and is no part of it; repeatable")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all();
  app.add_flag("--ignore-eos", ignore_eos, "go on after the model's own end");
  app.option_defaults()->group("Options");
}

GenerateOptions SamplingArgs::over(const SamplingParams& recommended) const {
  GenerateOptions options;
  options.sampling = recommended;
  SamplingParams& params = options.sampling;
  if ((top_p || top_k || min_p) && params.temperature == 0) params.temperature = 1;
  params.temperature = temperature.value_or(params.temperature);
  params.top_p = top_p.value_or(params.top_p);
  params.top_k = top_k.value_or(params.top_k);
  params.min_p = min_p.value_or(params.min_p);
  params.seed = seed ? *seed : std::random_device{}();
  params.max_tokens = max_tokens;
  params.ignore_eos = ignore_eos;
  options.stop = stop;
  return options;
}

}  // namespace octet::cli
