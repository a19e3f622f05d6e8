// SPDX-License-Identifier: Apache-2.0
/// The feed-forward layers: gated, down(silu(gate(x)) * up(x)), and plain, down(relu(up(x))).
#pragma once

#include <string>
#include <vector>

#include "octet/layers/linear.h"

namespace octet {

/// What a checkpoint calls the parts of a feed-forward layer.
struct MlpNames {
  std::string gate_proj = "gate_proj";
  std::string up_proj = "up_proj";
  std::string down_proj = "down_proj";
};

struct MlpSpec {
  std::string name;  ///< "model.layers.0.mlp"
  MlpNames names;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  bool bias = false;
};

/// What stands after attention in a decoder layer.
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual void declare(std::vector<Parameter>& parameters) = 0;
  /// x [T, H] -> y [T, H]: of a model that is cut, this rank's part of the sum.
  virtual void forward(ConstTensorView x, TensorView y, Arena& arena) const = 0;
  [[nodiscard]] virtual int64_t scratch_bytes(int64_t tokens) const = 0;
};

class Mlp final : public FeedForward {
 public:
  Mlp(const LayerContext& context, const MlpSpec& spec);

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  LayerContext context_;
  Linear gate_up_proj_;  // [2 I, H]
  Linear down_proj_;     // [H, I]
};

/// Without a gate: OPT's fc1 and fc2.
class PlainMlp final : public FeedForward {
 public:
  PlainMlp(const LayerContext& context, const MlpSpec& spec);

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  LayerContext context_;
  Linear up_proj_;    // [I, H]
  Linear down_proj_;  // [H, I]
};

}  // namespace octet
