// SPDX-License-Identifier: Apache-2.0
/// How fast a loaded model runs, beside what this machine allows in the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "octet/base/json.h"
#include "octet/llm/llm.h"

namespace octet {

struct ThroughputOptions {
  int64_t prompt_tokens = 512;
  int64_t new_tokens = 128;
  int64_t batch_size = 1;   ///< above 1: so many sequences are decoded together as well
  int64_t repetitions = 3;  ///< the median counts
  /// Called after every step of the engine with the share of the work that is done; returning false stops
  /// with Interrupted.
  std::function<bool(double)> progress;
};

/// A phase and its ceiling: for decode the time that reading every weight once takes, or that of the
/// multiplies at the machine's peak where many sequences make it longer; for prefill that of the multiplies.
struct PhaseThroughput {
  int64_t tokens = 0;  ///< of each sequence
  double tokens_per_second = 0;
  double ceiling_tokens_per_second = 0;
  [[nodiscard]] double ceiling_fraction() const { return tokens_per_second / ceiling_tokens_per_second; }
};

struct Throughput {
  PhaseThroughput prefill;
  PhaseThroughput decode;
  int64_t batch_size = 1;
  std::optional<PhaseThroughput> batch_decode;  ///< of batch_size sequences, all together
  int64_t decode_bytes_per_token = 0;           ///< weights read for one token
  double read_bytes_per_second = 0;             ///< the machine's read sweep over just those bytes
  double multiply_flops = 0;                    ///< the machine's multiply peak in the model's precision
  double load_seconds = 0;
  double load_bytes_per_second = 0;
  std::optional<double> raw_read_bytes_per_second;  ///< of the same files, read again without doing anything
  std::string cpu;
  std::string backend;
  int64_t weights_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t peak_bytes = 0;

  [[nodiscard]] Json to_json() const;
};

/// Prefill and decode of one sequence, then decode of a batch. Throws ConfigError when prompt and new tokens
/// do not fit the engine's context, or the batch not its sequences.
[[nodiscard]] Throughput measure_throughput(LLM& llm, const ThroughputOptions& options);

}  // namespace octet
