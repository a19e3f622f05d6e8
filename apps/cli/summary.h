// SPDX-License-Identifier: Apache-2.0
/// What was done, in a few lines for people, and the figures that `--json` gives of a run.
#pragma once

#include "apps/cli/console.h"
#include "octet/llm/inspect.h"
#include "octet/llm/llm.h"

namespace octet::cli {

/// Quantized weights, memory, load.
void summarize_load(LLM& llm, const Console& console);
/// Prompt and answer.
void summarize_generation(const Generation& generation, const Console& console);

/// What quantizing a group of weights lost, in a line.
[[nodiscard]] std::string quality_text(const WeightQuality& group);
/// New tokens per second after the first; 0 where there is none.
[[nodiscard]] double decode_rate(const Generation& generation);
/// What the options in force saved, from what is really stored: the field `savings`.
[[nodiscard]] std::vector<OptionSaving> loaded_savings(LLM& llm);
/// The field `digests`: SHA-256 of every weight by its name in the checkpoint.
[[nodiscard]] Json digests_json(LLM& llm);
/// The field `memory`.
[[nodiscard]] Json memory_json(LLM& llm);

}  // namespace octet::cli
