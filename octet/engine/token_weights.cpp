// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/token_weights.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace octet {
namespace {

constexpr float kBucketsOfE = 8;  // of an e-fold
/// Tokens at a time, in buffers of their own: loops of which compilers make vectors.
constexpr size_t kTokensAtOnce = 128;
constexpr float kFurthest = 87;  // exp(-87) is the last that is not subnormal

/// exp(-x) for x in [0, kFurthest]: 2^n times a polynomial of degree 7 on the rest, with the coefficients and
/// the two parts of ln 2 of Cephes' expf. Exactly 1 for 0.
float exp_of_minus(float x) {
  constexpr float kToInteger = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  const float shifted = kToInteger - x * kLog2E;
  const float n = shifted - kToInteger;
  const float r = (-x - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kToInteger);
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + (exponent << 23));
}

struct Scale {
  float best;
  float inverse;  // of the temperature
};

struct Run {
  std::array<float, kTokensAtOnce> logits{};
  std::array<float, kTokensAtOnce> weights{};
  std::array<uint16_t, kTokensAtOnce> buckets{};
};

void assign_run(Scale scale, Run& run) {
  constexpr float kLast = TokenWeights::kBuckets - 1;
  std::array<float, kTokensAtOnce> distance;
  std::array<float, kTokensAtOnce> possible;  // 1 or 0
  for (size_t i = 0; i < kTokensAtOnce; ++i) {
    const float scaled = (scale.best - run.logits[i]) * scale.inverse;
    distance[i] = scaled < kFurthest ? scaled : kFurthest;
    possible[i] = scaled < kFurthest ? 1.0F : 0.0F;
  }
  std::array<int32_t, kTokensAtOnce> buckets;
  for (size_t i = 0; i < kTokensAtOnce; ++i) {
    const float bucket = distance[i] * kBucketsOfE;
    buckets[i] = static_cast<int32_t>(bucket < kLast ? bucket : kLast);
  }
  for (size_t i = 0; i < kTokensAtOnce; ++i) run.weights[i] = exp_of_minus(distance[i]) * possible[i];
  for (size_t i = 0; i < kTokensAtOnce; ++i) run.buckets[i] = static_cast<uint16_t>(buckets[i]);
}

}  // namespace

TokenWeights::TokenWeights(int64_t vocab_size) {
  weights_.reserve(static_cast<size_t>(vocab_size));
  buckets_.reserve(static_cast<size_t>(vocab_size));
}

void TokenWeights::assign(std::span<const float> logits, float best, double temperature) {
  weights_.resize(logits.size());
  buckets_.resize(logits.size());
  // At either end every temperature beyond means the same: only the best token, or every one that is finite.
  const Scale scale{best, static_cast<float>(std::clamp(1.0 / temperature, 1e-30, 1e30))};
  Run run;
  for (size_t i = 0; i < logits.size(); i += kTokensAtOnce) {
    const size_t count = std::min(kTokensAtOnce, logits.size() - i);
    std::copy_n(logits.data() + i, count, run.logits.begin());
    assign_run(scale, run);
    std::copy_n(run.weights.begin(), count, weights_.data() + i);
    std::copy_n(run.buckets.begin(), count, buckets_.data() + i);
  }
}

std::array<TokenWeights::Bucket, TokenWeights::kBuckets> TokenWeights::spread() const {
  // Neighbours often share a bucket: in turns, so that an addition need not wait for the one before.
  constexpr size_t kTurns = 4;
  std::array<std::array<Bucket, kBuckets>, kTurns> parts{};
  for (size_t i = 0; i < weights_.size(); ++i) {
    Bucket& bucket = parts[i % kTurns][buckets_[i]];
    ++bucket.count;
    bucket.weight += static_cast<double>(weights_[i]);
  }
  for (size_t turn = 1; turn < kTurns; ++turn) {
    for (size_t b = 0; b < kBuckets; ++b) {
      parts[0][b].count += parts[turn][b].count;
      parts[0][b].weight += parts[turn][b].weight;
    }
  }
  return parts[0];
}

void TokenWeights::collect(int first, int last, std::vector<int32_t>& ids) const {
  if (last < first) return;
  size_t count = ids.size();
  ids.resize(count + buckets_.size());
  const auto range = static_cast<uint32_t>(last - first);
  for (size_t i = 0; i < buckets_.size(); ++i) {  // without a branch: what is meant may lie anywhere
    ids[count] = static_cast<int32_t>(i);
    count += static_cast<uint32_t>(buckets_[i] - first) <= range ? 1 : 0;
  }
  ids.resize(count);
}

}  // namespace octet
