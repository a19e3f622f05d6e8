// SPDX-License-Identifier: Apache-2.0
#include "octet/layers/router.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float sigmoid(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

void score_experts(RouterScore kind, std::span<const float> logits, std::span<float> scores) {
  if (kind == RouterScore::kSigmoid) {
    std::transform(logits.begin(), logits.end(), scores.begin(), sigmoid);
    return;
  }
  const float most = *std::max_element(logits.begin(), logits.end());
  float sum = 0;
  for (size_t e = 0; e < logits.size(); ++e) {
    scores[e] = std::exp(logits[e] - most);
    sum += scores[e];
  }
  for (float& score : scores) score /= sum;
}

/// The place of the largest value, the first of equal ones. `values` is not empty.
size_t largest(std::span<const float> values) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

float score_group(GroupScore kind, std::span<const float> choice) {
  const size_t first = largest(choice);
  if (kind == GroupScore::kLargest) return choice[first];
  float second = kNever;
  for (size_t e = 0; e < choice.size(); ++e) {
    if (e != first) second = std::max(second, choice[e]);
  }
  return choice[first] + second;
}

/// Leaves the experts of the best groups only: choice [E], scratch [groups].
void keep_best_groups(const RouterSpec& spec, std::span<float> choice, std::span<float> scores) {
  const size_t size = choice.size() / scores.size();
  for (size_t g = 0; g < scores.size(); ++g)
    scores[g] = score_group(spec.group_score, choice.subspan(g * size, size));
  for (size_t g = 0; g < scores.size(); ++g) {
    int64_t before = 0;  // better groups, and equal ones of smaller numbers
    for (size_t other = 0; other < scores.size(); ++other)
      before += scores[other] > scores[g] || (scores[other] == scores[g] && other < g) ? 1 : 0;
    if (before >= spec.chosen_groups) std::ranges::fill(choice.subspan(g * size, size), kNever);
  }
}

}  // namespace

void choose_experts(const RouterSpec& spec, std::span<const float> logits, std::span<const float> bias,
                    std::span<float> scratch, std::span<int32_t> experts, std::span<float> weights) {
  const size_t count = logits.size();
  const std::span<float> scores = scratch.first(count);
  const std::span<float> choice = scratch.subspan(count, count);
  score_experts(spec.score, logits, scores);
  std::ranges::copy(scores, choice.begin());
  for (size_t e = 0; e < bias.size(); ++e) choice[e] += bias[e];
  if (spec.chosen_groups < spec.groups)
    keep_best_groups(spec, choice, scratch.subspan(2 * count, static_cast<size_t>(spec.groups)));
  float sum = 0;
  for (size_t j = 0; j < experts.size(); ++j) {
    const size_t expert = largest(choice);
    choice[expert] = kNever;
    experts[j] = static_cast<int32_t>(expert);
    weights[j] = scores[expert];
    sum += weights[j];
  }
  const float divisor = spec.normalize ? sum + spec.normalize_floor : 1.0F;
  for (float& weight : weights) weight = weight / divisor * spec.scaling_factor;
}

Router::Router(const LayerContext& context, RouterSpec spec) : context_(context), spec_(std::move(spec)) {
  const bool fits = spec_.groups >= 1 && spec_.num_experts % spec_.groups == 0 && spec_.chosen_groups >= 1 &&
                    spec_.chosen_groups <= spec_.groups && spec_.experts_per_token >= 1 &&
                    spec_.experts_per_token <= spec_.num_experts / spec_.groups * spec_.chosen_groups;
  if (!fits) {
    throw ConfigError(spec_.module + ": cannot choose " + std::to_string(spec_.experts_per_token) + " of " +
                      std::to_string(spec_.num_experts) + " experts from " +
                      std::to_string(spec_.chosen_groups) + " of " + std::to_string(spec_.groups) +
                      " groups");
  }
  weight_.name = spec_.module;
  weight_.rows = spec_.num_experts + (spec_.shared_gate.empty() ? 0 : 1);
  weight_.cols = spec_.hidden_size;
  weight_.member_rows = {spec_.num_experts};
  if (!spec_.shared_gate.empty()) weight_.member_rows.push_back(1);
  weight_.rule = context_.quant_spec.rule(spec_.module, WeightRole::kExcluded);
  weight_.exact = true;
  correction_bias_.name = spec_.module + ".e_score_correction_bias";
  correction_bias_.size = spec_.correction_bias ? spec_.num_experts : 0;
  correction_bias_.exact = true;
}

void Router::declare(std::vector<Parameter>& parameters) {
  parameters.push_back({.name = spec_.module + ".weight",
                        .shape = Shape{spec_.num_experts, spec_.hidden_size},
                        .destination = &weight_,
                        .offset = 0,
                        .required = true,
                        .twin = spec_.alias.empty() ? std::string() : spec_.alias + ".weight"});
  if (!spec_.shared_gate.empty()) {
    parameters.push_back({.name = spec_.shared_gate + ".weight",
                          .shape = Shape{1, spec_.hidden_size},
                          .destination = &weight_,
                          .offset = spec_.num_experts,
                          .required = true,
                          .twin = {}});
  }
  if (spec_.correction_bias) {
    parameters.push_back({.name = correction_bias_.name,
                          .shape = Shape{spec_.num_experts},
                          .destination = &correction_bias_,
                          .offset = 0,
                          .required = true,
                          .twin = {}});
  }
}

void Router::forward(ConstTensorView x, std::span<int32_t> experts, TensorView weights, Arena& arena) const {
  const ArenaScope scope(arena);
  const auto count = static_cast<size_t>(spec_.num_experts);
  const auto chosen = static_cast<size_t>(spec_.experts_per_token);
  const TensorView logits = arena.tensor(DType::kF32, Shape{x.rows(), weight_.rows});
  const TensorView scratch = arena.tensor(DType::kF32, Shape{1, 3 * spec_.num_experts});
  const TensorView bias = arena.tensor(DType::kF32, Shape{1, spec_.num_experts});
  if (spec_.correction_bias) {
    const ConstTensorView stored = correction_bias_.tensor.view();
    const QuantMatrixView row{.data = const_cast<std::byte*>(stored.data()),
                              .dtype = stored.dtype(),
                              .rows = 1,
                              .cols = spec_.num_experts};
    context_.backend.read_rows(row, 0, bias);
  }
  context_.backend.gemm({.dense = x, .precision = Precision::kFloat32, .quantized = {}},
                        weight_.matrix.view(), {}, logits);
  for (int64_t t = 0; t < x.rows(); ++t) {
    const float* row = logits.row<float>(t);
    float* to = weights.row<float>(t);
    choose_experts(spec_, {row, count}, {bias.row<float>(0), spec_.correction_bias ? count : 0},
                   {scratch.row<float>(0), 3 * count},
                   experts.subspan(static_cast<size_t>(t) * chosen, chosen), {to, chosen});
    if (!spec_.shared_gate.empty()) to[chosen] = sigmoid(row[count]);
  }
}

int64_t Router::scratch_bytes(int64_t tokens) const {
  const int64_t floats = tokens * weight_.rows + 4 * spec_.num_experts;
  return floats * kFloatBytes + 3 * kAlignmentSlack;
}

}  // namespace octet
