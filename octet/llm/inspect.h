// SPDX-License-Identifier: Apache-2.0
/// What a model is and what it will take, before a weight is read.
#pragma once

#include "octet/base/json.h"
#include "octet/llm/llm.h"

namespace octet {

/// What one option saves, beside the options that are given already.
struct OptionSaving {
  std::string option;     ///< as on the command line
  bool in_force = false;  ///< given already: then what it saves against leaving it out
  int64_t saved_bytes = 0;
  int64_t kv_cache_tokens = 0;  ///< that fit into the saved bytes
};

struct Inspection {
  std::string architecture;
  int64_t parameters = 0;
  std::string backend;
  DType dtype = DType::kBF16;
  MemoryPlan plan;
  int64_t kv_cache_bytes_per_token = 0;
  int64_t max_position_embeddings = 0;
  std::vector<OptionSaving> options;

  [[nodiscard]] Json to_json() const;
};

[[nodiscard]] Inspection inspect(Model& model, std::optional<DType> kv_cache_dtype);

}  // namespace octet
