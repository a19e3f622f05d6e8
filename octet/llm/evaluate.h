// SPDX-License-Identifier: Apache-2.0
/// What the stored weights cost in quality: perplexity of a text, and the distance from the unquantized
/// model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "octet/base/json.h"
#include "octet/llm/llm.h"

namespace octet {

struct EvaluateOptions {
  int64_t window = 2048;  ///< tokens at a time, the leading BOS included; at most the engine's context
  bool reference = true;  ///< compare with the same model, unquantized and with an unquantized cache
  /// Called now and then with the share of the work that is done; returning false stops it with Interrupted.
  std::function<bool(double)> progress;
};

struct Evaluation {
  int64_t tokens = 0;  ///< predicted
  double perplexity = 0;
  std::optional<double> reference_perplexity;
  std::optional<double> kl_divergence;   ///< mean over tokens of KL(reference || model), in nats
  std::optional<double> top1_agreement;  ///< share of tokens whose likeliest successor is the same

  [[nodiscard]] std::optional<double> perplexity_ratio() const;
  [[nodiscard]] Json to_json() const;
};

/// Reads `ids` in windows without overlap, each after the model's own BOS where it has one. The reference
/// passes through memory layer by layer, so that never more than one of its layers is held beside the model.
/// Throws ArgumentError when there is nothing to predict.
[[nodiscard]] Evaluation evaluate(LLM& llm, std::span<const int32_t> ids, const EvaluateOptions& options);

}  // namespace octet
