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

/// An unnormalized probability, 1 for the best.
double weight_of(float logit, float best, double temperature) {
  return std::exp((static_cast<double>(logit) - static_cast<double>(best)) / temperature);
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

Sampler::Sampler(int64_t vocab_limit) : vocab_limit_(vocab_limit) {
  candidates_.reserve(static_cast<size_t>(vocab_limit));
  weights_.reserve(static_cast<size_t>(vocab_limit));
}

int32_t Sampler::sample(std::span<const float> logits, const SamplingParams& params,
                        std::mt19937_64& generator) {
  logits = logits.first(std::min(logits.size(), static_cast<size_t>(vocab_limit_)));
  if (params.temperature == 0) return argmax(logits);
  const float best = checked_largest(logits);
  keep_top_k(logits, params.top_k);
  const double total = weigh(params.temperature, best);
  if (params.top_p < 1.0) keep_top_p(total, best, params);
  return draw(params.min_p, generator);
}

/// Fills candidates_ with the k most likely (all for k = 0), in ascending id where all are kept.
void Sampler::keep_top_k(std::span<const float> logits, int64_t k) {
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) candidates_.push_back({logits[id], static_cast<int32_t>(id)});
  const auto count = static_cast<size_t>(k);
  if (k == 0 || count >= candidates_.size()) return;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(count) - 1,
                   candidates_.end(), likelier);
  candidates_.resize(count);
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

/// Unnormalized probabilities relative to the best; returns their sum.
double Sampler::weigh(double temperature, float best) {
  weights_.clear();
  double total = 0;
  for (const Candidate& c : candidates_) {
    weights_.push_back(weight_of(c.logit, best, temperature));
    total += weights_.back();
  }
  return total;
}

/// Keeps the fewest likeliest candidates whose probabilities reach top_p; the last one that crosses it stays.
void Sampler::keep_top_p(double total, float best, const SamplingParams& params) {
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  // Most distributions need few candidates: sort a growing front only.
  std::vector<Candidate>& c = candidates_;
  double reached = 0;
  size_t kept = 0;
  weights_.clear();
  for (size_t front = 256, sorted = 0; sorted < c.size(); front *= 4) {
    const size_t end = std::min(front, c.size());
    if (end < c.size()) {
      std::nth_element(c.begin() + static_cast<int64_t>(sorted), c.begin() + static_cast<int64_t>(end),
                       c.end(), likelier);
    }
    std::sort(c.begin() + static_cast<int64_t>(sorted), c.begin() + static_cast<int64_t>(end), likelier);
    for (; kept < end; ++kept) {
      if (reached >= params.top_p * total && kept > 0) break;
      weights_.push_back(weight_of(c[kept].logit, best, params.temperature));
      reached += weights_.back();
    }
    sorted = end;
    if (kept < end) break;
  }
  c.resize(kept);
}

int32_t Sampler::draw(double min_p, std::mt19937_64& generator) const {
  const double best = *std::max_element(weights_.begin(), weights_.end());
  const auto allowed = [&](double weight) { return weight >= min_p * best; };
  double total = 0;
  for (const double weight : weights_) total += allowed(weight) ? weight : 0.0;
  double rest = uniform(generator) * total;
  int32_t last = candidates_.front().id;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (!allowed(weights_[i]) || weights_[i] == 0.0) continue;
    last = candidates_[i].id;
    rest -= weights_[i];
    if (rest < 0) break;
  }
  return last;
}

}  // namespace octet
