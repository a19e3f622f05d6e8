// SPDX-License-Identifier: Apache-2.0
/// The router of a mixture of experts: which experts a token goes to, and with what weights. Never quantized;
/// its multiply and all that follows are float32, whatever the model computes in.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

/// From logits to scores.
enum class RouterScore {
  kSoftmax,  ///< over all experts (Qwen, Mixtral, DeepSeek-V2)
  kSigmoid,  ///< of each expert (DeepSeek-V3, GLM)
};

/// What a group of experts is chosen by.
enum class GroupScore {
  kLargest,     ///< its best expert (DeepSeek-V2)
  kTwoLargest,  ///< the sum of its two best (DeepSeek-V3)
};

struct RouterSpec {
  std::string module;  ///< "model.layers.0.mlp.gate"
  std::string alias;   ///< a second name of the same, or empty
  /// A row that is multiplied along with it: the gate of a shared expert, weighed by its sigmoid. Or empty.
  std::string shared_gate;
  int64_t hidden_size = 0;        // H
  int64_t num_experts = 0;        // E
  int64_t experts_per_token = 0;  // k
  RouterScore score = RouterScore::kSoftmax;
  /// `<module>.e_score_correction_bias` [E] is added to the scores for the choice, not for the weights.
  bool correction_bias = false;
  int64_t groups = 1;         ///< experts are chosen from the best `chosen_groups` of so many equal groups
  int64_t chosen_groups = 1;  ///< groups = chosen_groups: from all
  GroupScore group_score = GroupScore::kLargest;
  bool normalize = false;      ///< weights are divided by their sum ...
  float normalize_floor = 0;   ///< ... plus this
  float scaling_factor = 1.0;  ///< and multiplied by this
};

/// One token's experts, best first, equal ones in the order of their numbers, and their weights.
///   logits   [E]
///   bias     [E] or empty
///   scratch  [2 E + groups]
///   experts, weights  [k]
void choose_experts(const RouterSpec& spec, std::span<const float> logits, std::span<const float> bias,
                    std::span<float> scratch, std::span<int32_t> experts, std::span<float> weights);

class Router {
 public:
  /// Throws ConfigError where experts cannot be grouped or chosen as the spec says.
  Router(const LayerContext& context, RouterSpec spec);
  Router(const Router&) = delete;  // parameters point into it
  Router& operator=(const Router&) = delete;

  void declare(std::vector<Parameter>& parameters);
  /// x [T, H] -> experts [T * k] and the first k columns of weights [T, k or more]; with a shared gate also
  /// column k.
  void forward(ConstTensorView x, std::span<int32_t> experts, TensorView weights, Arena& arena) const;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const;

 private:
  LayerContext context_;
  RouterSpec spec_;
  StoredMatrix weight_;           // [E or E + 1, H]
  StoredVector correction_bias_;  // [E] or empty
};

}  // namespace octet
