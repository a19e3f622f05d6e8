// SPDX-License-Identifier: Apache-2.0
/// Unnormalized probabilities of a vocabulary, and how they are spread: what sampling needs to find the
/// likeliest tokens without sorting all of them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace octet {

/// Holds scratch for one vocabulary. Not thread-safe.
class TokenWeights {
 public:
  /// Tokens are put into buckets by their distance to the best one, an eighth of an e-fold each; the last
  /// takes what is further than that.
  static constexpr int kBuckets = 512;

  explicit TokenWeights(int64_t vocab_size);

  /// weight = exp((logit - best) / temperature), in float32 to about 2 units in the last place: 1 for the
  /// best, 0 where it would be subnormal. `best` is the largest logit and finite, temperature > 0. At most
  /// the vocabulary's number of logits.
  void assign(std::span<const float> logits, float best, double temperature);

  [[nodiscard]] std::span<const float> weights() const { return weights_; }
  /// A less likely token never has the lower bucket.
  struct Bucket {
    int64_t count = 0;
    double weight = 0;
  };
  /// How many tokens each bucket has, and their weight together.
  [[nodiscard]] std::array<Bucket, kBuckets> spread() const;

  /// Appends the ids in buckets `first` to `last`, ascending. Allocates nothing where `ids` has room for all.
  void collect(int first, int last, std::vector<int32_t>& ids) const;

 private:
  std::vector<float> weights_;
  std::vector<uint16_t> buckets_;
};

}  // namespace octet
