// SPDX-License-Identifier: Apache-2.0
/// From logits to a token id: temperature, then top-k, top-p and min-p, as transformers orders them.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "octet/engine/sampling_params.h"
#include "octet/engine/token_weights.h"

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
  void keep_top_k(std::span<const float> logits, int64_t k);
  void keep_top_p(std::span<const float> logits, double top_p);
  [[nodiscard]] int32_t least_likely(std::span<const float> logits, double reached, double enough);
  template <class IdOf>
  [[nodiscard]] int32_t draw(size_t count, IdOf id_of, double min_p, std::mt19937_64& generator);

  int64_t vocab_limit_;
  TokenWeights tokens_;
  bool all_ = true;                  // whether nothing is cut off
  std::vector<int32_t> candidates_;  // what is left, unless all_
  std::vector<int32_t> scratch_;
  std::vector<double> sums_;  // of runs of candidates
};

/// The id of the largest logit, the lowest id among equals. Throws DeviceError on NaN or when none is finite.
[[nodiscard]] int32_t argmax(std::span<const float> logits);

}  // namespace octet
