// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/generation_config.h"

#include <limits>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "octet/base/json.h"

namespace octet {

GenerationConfig read_generation_config(const std::filesystem::path& folder) {
  GenerationConfig config;
  config.sampling.temperature = 0;
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return config;
  const Json json = parse_json(read_text_file(path), path.string());
  if (!json.is_object())
    throw ConfigError(path.string() + ": expected a JSON object, found " + json.type_name());
  JsonFields fields(json, path.string());
  const auto ids = fields.integers("eos_token_id", -1, std::numeric_limits<int32_t>::max());
  if (fields.has("eos_token_id")) config.eos_token_ids.emplace(ids.begin(), ids.end());
  if (fields.boolean("do_sample", false)) {
    // transformers' own defaults where the file is silent
    config.sampling.temperature = fields.number("temperature", 1.0, 0.0, 1e6);
    config.sampling.top_k = fields.integer("top_k", 50, 0, std::numeric_limits<int32_t>::max());
    config.sampling.top_p = fields.number("top_p", 1.0, 0.0, 1.0);
    config.sampling.min_p = fields.number("min_p", 0.0, 0.0, 1.0);
    if (config.sampling.top_p == 0.0)
      config.sampling.top_k = 1;  // "nothing but the best": the same, within range
    if (config.sampling.top_p == 0.0) config.sampling.top_p = 1.0;
  }
  fields.finish();
  return config;
}

}  // namespace octet
