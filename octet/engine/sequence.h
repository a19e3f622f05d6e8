// SPDX-License-Identifier: Apache-2.0
/// One request on its way through the engine.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "octet/engine/sampling_params.h"

namespace octet {

struct Sequence {
  int64_t id = 0;
  std::vector<int32_t> tokens;  ///< prompt, then what was generated
  int64_t prompt_tokens = 0;
  int64_t max_length = 0;  ///< of `tokens`: by max_tokens and by the model's context
  SamplingParams params;
  std::mt19937_64 generator;
  int64_t computed = 0;  ///< tokens whose keys and values are in the cache
  std::vector<int32_t> blocks;

  [[nodiscard]] int64_t length() const { return static_cast<int64_t>(tokens.size()); }
  [[nodiscard]] int64_t pending() const { return length() - computed; }
};

}  // namespace octet
