// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/sampling_args.h"

#include <random>

namespace octet::cli {

void SamplingArgs::add_options(CLI::App& app) {
  app.add_option("-n,--max-tokens", max_tokens, "new tokens at most (default 256)")
      ->type_name("N")->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  app.add_option("--temperature", temperature, "0: always the likeliest token (default: generation_config.json)")
      ->type_name("X")->check(CLI::Range(0.0, 1e6));
  app.add_option("--top-p", top_p, "only the likeliest tokens that together have this probability")
      ->type_name("P")->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", top_k, "only the K likeliest tokens; 0: all")
      ->type_name("K")->check(CLI::Range(int64_t{0}, int64_t{1} << 31));
  app.add_option("--min-p", min_p, "only tokens at least P times as likely as the likeliest")
      ->type_name("P")->check(CLI::Range(0.0, 1.0));
  app.add_option("--seed", seed, "of the random numbers: the same seed, the same text (default: a new one)")->type_name("N");
  app.add_option("--stop", stop, "text that ends the answer and is no part of it; repeatable")
      ->type_name("TEXT")->expected(1)->take_all();
  app.add_flag("--ignore-eos", ignore_eos, "go on after the model's own end");
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
