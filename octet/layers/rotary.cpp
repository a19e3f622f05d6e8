// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace octet {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

/// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
double llama3_frequency(double frequency, const RopeSpec& spec) {
  const double wavelength = kTwoPi / frequency;
  const auto original = static_cast<double>(spec.original_max_position_embeddings);
  if (wavelength < original / spec.high_freq_factor) return frequency;
  if (wavelength > original / spec.low_freq_factor) return frequency / spec.factor;
  const double smooth =
      (original / wavelength - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor);
  return (1.0 - smooth) * frequency / spec.factor + smooth * frequency;
}

/// YaRN (Peng et al. 2023, section 3.2): the dimension that turns `rotations` times over the original
/// context.
double yarn_dimension(double rotations, const RopeSpec& spec) {
  const auto original = static_cast<double>(spec.original_max_position_embeddings);
  return static_cast<double>(spec.rotary_dim) * std::log(original / (rotations * kTwoPi)) /
         (2.0 * std::log(spec.theta));
}

struct YarnRamp {
  double low = 0;
  double high = 0;

  explicit YarnRamp(const RopeSpec& spec)
      : low(yarn_dimension(spec.beta_fast, spec)), high(yarn_dimension(spec.beta_slow, spec)) {
    if (spec.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, static_cast<double>(spec.rotary_dim - 1));
    if (low == high) high += 0.001;
  }

  /// 0: keep the frequency; 1: stretch it by the factor.
  [[nodiscard]] double at(int64_t pair) const {
    return std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  }
};

double yarn_frequency(double frequency, int64_t pair, const YarnRamp& ramp, const RopeSpec& spec) {
  const double stretched = ramp.at(pair);
  return frequency / spec.factor * stretched + frequency * (1.0 - stretched);
}

double scaled_frequency(double frequency, int64_t pair, const RopeSpec& spec) {
  switch (spec.type) {
    case RopeType::kDefault:
      return frequency;
    case RopeType::kLinear:
      return frequency / spec.factor;
    case RopeType::kLlama3:
      return llama3_frequency(frequency, spec);
    case RopeType::kYarn:
      return yarn_frequency(frequency, pair, YarnRamp(spec), spec);
  }
  return frequency;
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const RopeSpec& spec) : spec_(spec) {
  const int64_t pairs = spec.rotary_dim / 2;
  inverse_frequencies_.reserve(static_cast<size_t>(pairs));
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const double exponent = 2.0 * static_cast<double>(pair) / static_cast<double>(spec.rotary_dim);
    const double frequency = 1.0 / std::pow(spec.theta, exponent);
    inverse_frequencies_.push_back(static_cast<float>(scaled_frequency(frequency, pair, spec)));
  }
}

void RotaryEmbedding::angles(std::span<const int32_t> positions, TensorView cos, TensorView sin) const {
  const auto factor = static_cast<float>(spec_.attention_factor);
  for (size_t t = 0; t < positions.size(); ++t) {
    auto* cos_row = cos.row<float>(static_cast<int64_t>(t));
    auto* sin_row = sin.row<float>(static_cast<int64_t>(t));
    for (size_t pair = 0; pair < inverse_frequencies_.size(); ++pair) {
      const float angle = static_cast<float>(positions[t]) * inverse_frequencies_[pair];
      cos_row[pair] = static_cast<float>(std::cos(static_cast<double>(angle))) * factor;
      sin_row[pair] = static_cast<float>(std::sin(static_cast<double>(angle))) * factor;
    }
  }
}

}  // namespace octet
