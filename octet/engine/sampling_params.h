// SPDX-License-Identifier: Apache-2.0
/// How the next token is chosen and when a sequence ends.
#pragma once

#include <cstdint>
#include <vector>

namespace octet {

struct SamplingParams {
  double temperature = 1.0;  ///< 0: greedy
  int64_t top_k = 0;         ///< 0: all
  double top_p = 1.0;        ///< (0, 1]
  double min_p = 0.0;        ///< [0, 1], relative to the most likely token
  uint64_t seed = 0;         ///< of the sequence's own generator
  int64_t max_tokens = 16;   ///< new tokens at most
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids = {};  ///< beyond the model's own eos ids

  /// Throws ArgumentError listing every field out of its range.
  void validate() const;
};

enum class FinishReason {
  kStop,    ///< an eos or stop token (or, above the engine, a stop string)
  kLength,  ///< max_tokens or the model's context
};

}  // namespace octet
