// SPDX-License-Identifier: Apache-2.0
/// The fields of config.json that every architecture shares, in both dialects of transformers.
#pragma once

#include "octet/base/json.h"
#include "octet/models/decoder_spec.h"

namespace octet {

/// What an architecture has where its config.json is silent.
struct ConfigDefaults {
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  const char* head_dim = "head_dim";  ///< the field that holds it
};

/// Sizes, head counts, norm epsilon, tying, dtype, rope and token ids. Faults go to `fields`.
[[nodiscard]] DecoderSpec read_common(JsonFields& fields, const ConfigDefaults& defaults);

/// The parts of `read_common`, for architectures that name or lack some of its fields.
///
/// Vocabulary, hidden size, layers and the width inside the feed-forward layer, which `intermediate` names.
void read_sizes(JsonFields& fields, DecoderSpec& spec, const char* intermediate = "intermediate_size");
/// Head counts and head_dim; after the sizes.
void read_heads(JsonFields& fields, DecoderSpec& spec, const char* head_dim = "head_dim");
/// BOS and EOS.
void read_token_ids(JsonFields& fields, DecoderSpec& spec);
/// Which layers slide where there is no `layer_types`.
enum class WindowedLayers {
  kUpper,        ///< from `max_window_layers` on
  kEverySecond,  ///< the first, third, ... below `max_window_layers`
  kAll,
};

/// The window of each layer, 0 for none: `use_sliding_window`, `sliding_window`, `max_window_layers`, and
/// `layer_types` (transformers 5), which says it layer by layer.
[[nodiscard]] std::vector<int64_t> read_sliding_windows(JsonFields& fields, int64_t layers,
                                                        WindowedLayers usual);

/// "bfloat16" (or "torch.bfloat16") -> the dtype; a fault under `name` for anything but the three real
/// dtypes.
[[nodiscard]] DType read_dtype(JsonFields& fields);

}  // namespace octet
