// SPDX-License-Identifier: Apache-2.0
/// What a model's makers recommend for sampling: generation_config.json.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "octet/engine/sampling_params.h"

namespace octet {

struct GenerationConfig {
  SamplingParams sampling;  ///< greedy unless `do_sample` is true
  /// The ids that end a text; they win over those of config.json.
  std::optional<std::vector<int32_t>> eos_token_ids;
};

/// A missing file gives the defaults of transformers: greedy. Throws ConfigError with every wrong field.
[[nodiscard]] GenerationConfig read_generation_config(const std::filesystem::path& folder);

}  // namespace octet
