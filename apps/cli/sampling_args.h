// SPDX-License-Identifier: Apache-2.0
/// The options by which the next token is chosen.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/llm/llm.h"

namespace octet::cli {

struct SamplingArgs {
  int64_t max_tokens = 256;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int64_t> top_k;
  std::optional<double> min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;

  void add_options(CLI::App& app);
  /// What is given here, and the model's own recommendation for the rest. A model that recommends greedy
  /// decoding is sampled at temperature 1 once top-p, top-k or min-p are given: they mean nothing otherwise.
  [[nodiscard]] GenerateOptions over(const SamplingParams& recommended) const;
};

}  // namespace octet::cli
