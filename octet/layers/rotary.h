// SPDX-License-Identifier: Apache-2.0
/// Rotary position embedding: the angles of a step's positions, computed once per step for all layers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/layers/context.h"

namespace octet {

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

/// As config.json has it, under `rope_parameters` or `rope_theta` and `rope_scaling`.
struct RopeSpec {
  RopeType type = RopeType::kDefault;
  int64_t rotary_dim = 0;  ///< R, at most head_dim
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;                  ///< llama3
  double high_freq_factor = 4.0;                 ///< llama3
  int64_t original_max_position_embeddings = 0;  ///< llama3, yarn
  double beta_fast = 32.0;                       ///< yarn
  double beta_slow = 1.0;                        ///< yarn
  bool truncate = true;                          ///< yarn: round the ramp's ends to whole dimensions
  double attention_factor = 1.0;                 ///< cos and sin are multiplied by it
  double latent_scale_factor = 1.0;              ///< yarn: q . k of latent attention is multiplied by it
  double temperature_beta = 0.0;     ///< `llama_4_scaling_beta`: how queries grow with the position; 0: not
  int64_t temperature_original = 0;  ///< in runs of so many positions
  RopeStyle style = RopeStyle::kHalfSplit;
};

/// Immutable; safe from any thread.
class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(const RopeSpec& spec);

  [[nodiscard]] const RopeSpec& spec() const { return spec_; }
  /// One angle per position and pair, in float32 as the published models compute it: [R / 2].
  [[nodiscard]] std::span<const float> inverse_frequencies() const { return inverse_frequencies_; }
  /// positions [T] -> cos, sin [T, R / 2] float32.
  void angles(std::span<const int32_t> positions, TensorView cos, TensorView sin) const;

 private:
  RopeSpec spec_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace octet
