// SPDX-License-Identifier: Apache-2.0
/// The `quantization_config` of a checkpoint that is already in FP8, in the dialects that are found in the
/// wild.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/json.h"
#include "octet/quant/quant_spec.h"

namespace octet {

/// What an FP8 checkpoint says of itself. How its scales lie is read from the tensors; this is what they
/// cannot tell.
struct QuantConfig {
  std::string method;                 ///< "fp8", "compressed-tensors", "modelopt", "octet"
  std::optional<int64_t> block_rows;  ///< of a grid of scales
  std::optional<int64_t> block_cols;
  bool static_activations = false;  ///< the file has scales for activations
  std::vector<std::string> ignore;  ///< modules that were left as they are: names, globs and "re:" patterns
  /// What the file's KV cache scales are for, "" where it says nothing.
  std::string kv_cache_scheme;
};

/// Reads the value of "quantization_config". `source` (a file name) opens every message.
///   fp8                 {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme":
///   "dynamic",
///                        "modules_to_not_convert": [...]}
///   compressed-tensors  {"quant_method": "compressed-tensors", "format": "float-quantized",
///                        "config_groups": {...: {"weights": {...}, "input_activations": {...}}}, "ignore":
///                        [...]}
///   modelopt            {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": [...]}, also
///   under
///                       "quantization" as in hf_quant_config.json
///   octet               {"quant_method": "octet", "format": "raw", "weight_block_size": [128, 128],
///   "ignore": [...]}
/// Throws ConfigError, all faults together, for another method, integer or 4-bit formats, and fields of a
/// wrong type.
[[nodiscard]] QuantConfig read_quant_config(const Json& config, std::string_view source);

}  // namespace octet
