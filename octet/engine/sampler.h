// SPDX-License-Identifier: Apache-2.0
/// From logits to a token id: temperature, then top-k, top-p and min-p, as transformers orders them.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "octet/engine/sampling_params.h"

namespace octet {

/// Holds scratch for one vocabulary, so that sampling allocates nothing. Not thread-safe.
class Sampler {
 public:
  /// Ids from `vocab_limit` on (rows of the head that no token has) are never chosen.
  explicit Sampler(int64_t vocab_limit);

  /// logits [V] float32. The same logits, parameters and generator state give the same id on every machine of
  /// equal float arithmetic. Throws DeviceError when the logits are not finite: a broken model must not
  /// become text.
  [[nodiscard]] int32_t sample(std::span<const float> logits, const SamplingParams& params,
                               std::mt19937_64& generator);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void keep_top_k(std::span<const float> logits, int64_t k);
  [[nodiscard]] double weigh(double temperature, float best);
  void keep_top_p(double total, float best, const SamplingParams& params);
  [[nodiscard]] int32_t draw(double min_p, std::mt19937_64& generator) const;

  int64_t vocab_limit_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // of candidates_, in the same order
};

/// The id of the largest logit, the lowest id among equals. Throws DeviceError on NaN or when none is finite.
[[nodiscard]] int32_t argmax(std::span<const float> logits);

}  // namespace octet
