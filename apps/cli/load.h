// SPDX-License-Identifier: Apache-2.0
/// From options to a loaded model, with progress, warnings and the load report.
#pragma once

#include <memory>

#include "apps/cli/args.h"

namespace octet::cli {

/// Opens, plans, loads. Ctrl-C ends it with Interrupted. Writes `--load-report` after loading; that the file
/// can be written is known before. Ranks other than 0 load their part in silence and write FILE.rank1, ...
[[nodiscard]] std::unique_ptr<LLM> load_model(const ModelArgs& args, const Console& console);

/// The same without loading: headers and plan.
[[nodiscard]] std::unique_ptr<Model> open_model(const ModelArgs& args, const Console& console);

/// The model's max_position_embeddings, from its config.json.
[[nodiscard]] int64_t model_positions(const ModelArgs& args);

}  // namespace octet::cli
