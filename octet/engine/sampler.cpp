// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "octet/base/error.h"

namespace octet {
namespace {

/// Candidates whose weights are summed at a time.
constexpr size_t kRun = 512;

/// The largest value; NaN anywhere gives NaN. Independent lanes, so that the loop runs at the speed of
/// memory.
float largest(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best{};
  best.fill(-std::numeric_limits<float>::infinity());
  std::array<float, kLanes> poison{};  // x - x is 0 for finite x, NaN otherwise; -infinity is allowed
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      best[lane] = value > best[lane] ? value : best[lane];
      poison[lane] += value != value ? 1.0F : 0.0F;
    }
  }
  float result = *std::max_element(best.begin(), best.end());
  bool nan = std::any_of(poison.begin(), poison.end(), [](float p) { return p != 0.0F; });
  for (size_t i = whole; i < values.size(); ++i) {
    nan = nan || std::isnan(values[i]);
    result = std::max(result, values[i]);
  }
  return nan ? std::numeric_limits<float>::quiet_NaN() : result;
}

float checked_largest(std::span<const float> logits) {
  const float best = largest(logits);
  if (!std::isfinite(best)) {
    throw DeviceError("the model's logits are not finite (largest: " + std::to_string(best) +
                      "): the weights or the options are broken, no token was chosen");
  }
  return best;
}

/// Uniform in [0, 1) from the generator's upper 53 bits: the same on every standard library.
double uniform(std::mt19937_64& generator) {
  return static_cast<double>(generator() >> 11) * 0x1p-53;
}

/// A total order of tokens: by logit, the lower id first among equals.
auto likelier_by(std::span<const float> logits) {
  return [logits](int32_t a, int32_t b) {
    const float first = logits[static_cast<size_t>(a)];
    const float second = logits[static_cast<size_t>(b)];
    return first != second ? first > second : a < b;
  };
}

}  // namespace

void SamplingParams::validate() const {
  std::string faults;
  const auto need = [&](bool holds, const std::string& text) {
    if (!holds) faults += (faults.empty() ? "" : "; ") + text;
  };
  need(temperature >= 0 && std::isfinite(temperature),
       "temperature: expected 0 or more, found " + std::to_string(temperature));
  need(top_k >= 0, "top_k: expected 0 or more, found " + std::to_string(top_k));
  need(top_p > 0 && top_p <= 1, "top_p: expected more than 0 and at most 1, found " + std::to_string(top_p));
  need(min_p >= 0 && min_p <= 1, "min_p: expected 0 to 1, found " + std::to_string(min_p));
  need(max_tokens >= 1, "max_tokens: expected 1 or more, found " + std::to_string(max_tokens));
  if (!faults.empty()) throw ArgumentError(faults);
}

int32_t argmax(std::span<const float> logits) {
  const float best = checked_largest(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

Sampler::Sampler(int64_t vocab_limit) : vocab_limit_(vocab_limit), tokens_(vocab_limit) {
  const auto size = static_cast<size_t>(vocab_limit);
  candidates_.reserve(2 * size);  // what is collected in two parts needs room for all in each
  scratch_.reserve(size);
  sums_.reserve(size / kRun + 1);
}

int32_t Sampler::sample(std::span<const float> logits, const SamplingParams& params,
                        std::mt19937_64& generator) {
  logits = logits.first(std::min(logits.size(), static_cast<size_t>(vocab_limit_)));
  if (params.temperature == 0) return argmax(logits);
  tokens_.assign(logits, checked_largest(logits), params.temperature);
  all_ = true;
  if (params.top_k != 0 && params.top_k < std::ssize(logits)) keep_top_k(logits, params.top_k);
  if (params.top_p < 1.0) keep_top_p(logits, params.top_p);
  if (all_) {
    return draw(logits.size(), [](size_t i) { return static_cast<int32_t>(i); }, params.min_p, generator);
  }
  return draw(candidates_.size(), [this](size_t i) { return candidates_[i]; }, params.min_p, generator);
}

/// The k likeliest, ascending: from the buckets that they lie in.
void Sampler::keep_top_k(std::span<const float> logits, int64_t k) {
  const auto spread = tokens_.spread();
  int last = 0;
  for (int64_t count = spread[0].count; count < k; count += spread[static_cast<size_t>(last)].count) ++last;
  candidates_.clear();
  tokens_.collect(0, last, candidates_);
  std::nth_element(candidates_.begin(), candidates_.begin() + k - 1, candidates_.end(), likelier_by(logits));
  candidates_.resize(static_cast<size_t>(k));
  std::sort(candidates_.begin(), candidates_.end());
  all_ = false;
}

/// The fewest likeliest whose probabilities reach top_p; the last one that crosses it stays.
void Sampler::keep_top_p(std::span<const float> logits, double top_p) {
  double reached = 0;
  size_t sure = 0;  // candidates that stay, whatever becomes of those after them
  double total = 0;
  if (all_) {
    const auto spread = tokens_.spread();
    for (const TokenWeights::Bucket& bucket : spread) total += bucket.weight;
    int last = 0;
    for (; last + 1 < TokenWeights::kBuckets; ++last) {
      const double weight = spread[static_cast<size_t>(last)].weight;
      if (reached + weight >= top_p * total) break;
      reached += weight;
    }
    candidates_.clear();
    tokens_.collect(0, last - 1, candidates_);
    sure = candidates_.size();
    tokens_.collect(last, last, candidates_);
    all_ = false;
  } else {
    for (const int32_t id : candidates_)
      total += static_cast<double>(tokens_.weights()[static_cast<size_t>(id)]);
  }
  const auto unsure = candidates_.begin() + static_cast<int64_t>(sure);
  scratch_.assign(unsure, candidates_.end());
  if (scratch_.empty()) return;
  const int32_t cut = least_likely(logits, reached, top_p * total);
  const auto likelier = likelier_by(logits);
  candidates_.erase(std::remove_if(unsure, candidates_.end(), [&](int32_t id) { return likelier(cut, id); }),
                    candidates_.end());
}

/// Of the tokens in scratch_, the one with which those that are likelier, and it, bring `reached` to
/// `enough`; the least likely where all together do not. Halves what is left each time; sorts nothing.
int32_t Sampler::least_likely(std::span<const float> logits, double reached, double enough) {
  const std::span<const float> weights = tokens_.weights();
  auto begin = scratch_.begin();
  auto end = scratch_.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, likelier_by(logits));
    double sum = 0;
    for (auto id = begin; id != middle; ++id) sum += static_cast<double>(weights[static_cast<size_t>(*id)]);
    if (reached + sum >= enough) {
      end = middle;
    } else {
      reached += sum;
      begin = middle;
    }
  }
  return *begin;
}

/// One of `count` ids, each as often as its weight says. Sums of runs first, then the run in which the drawn
/// number lies.
template <class IdOf>
int32_t Sampler::draw(size_t count, IdOf id_of, double min_p, std::mt19937_64& generator) {
  const std::span<const float> weights = tokens_.weights();
  const auto weight_of = [&](size_t i) {
    const auto weight = static_cast<double>(weights[static_cast<size_t>(id_of(i))]);
    return weight >= min_p ? weight : 0.0;  // the best has 1
  };
  sums_.clear();
  double total = 0;
  for (size_t begin = 0; begin < count; begin += kRun) {
    std::array<double, 4> sums{};
    const size_t end = std::min(count, begin + kRun);
    for (size_t i = begin; i < end; ++i) sums[i % 4] += weight_of(i);
    sums_.push_back((sums[0] + sums[1]) + (sums[2] + sums[3]));
    total += sums_.back();
  }
  double rest = uniform(generator) * total;
  size_t run = 0;  // never one without weight: rounding may leave a little of `rest` beyond the last
  for (size_t r = 0; r < sums_.size(); ++r) {
    if (sums_[r] == 0.0) continue;
    run = r;
    if (rest < sums_[r]) break;
    rest -= sums_[r];
  }
  int32_t chosen = -1;
  for (size_t i = run * kRun; i < std::min(count, (run + 1) * kRun) && rest >= 0; ++i) {
    if (weight_of(i) == 0.0) continue;
    chosen = id_of(i);
    rest -= weight_of(i);
  }
  return chosen;
}

}  // namespace octet
