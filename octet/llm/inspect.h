// SPDX-License-Identifier: Apache-2.0
/// What a model is and what it will take, before a weight is read.
#pragma once

#include <span>
#include <vector>

#include "octet/base/json.h"
#include "octet/llm/llm.h"

namespace octet {

/// What one option saves, beside the options that are given already. In a tied model `--fp8-lm-head` and
/// `--fp8-embedding` store the same table: each is then counted against leaving out both, so their figures
/// are one saving and not two.
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

/// What the options in force saved, from the bytes that the weights of a loaded model really hold (scales and
/// padding included): to the byte what `inspect` said before. `kv_bytes_per_token` is that of the cache in
/// use.
[[nodiscard]] std::vector<OptionSaving> savings_of_loaded(Model& model, int64_t kv_bytes_per_token);

/// [{"option", "in_force", "saved_bytes", "kv_cache_tokens"}]
[[nodiscard]] Json to_json(std::span<const OptionSaving> savings);

}  // namespace octet
