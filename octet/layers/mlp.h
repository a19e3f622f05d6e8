// SPDX-License-Identifier: Apache-2.0
/// The gated feed-forward layer: down(silu(gate(x)) * up(x)).
#pragma once

#include <string>
#include <vector>

#include "octet/layers/linear.h"

namespace octet {

struct MlpSpec {
  std::string name;  ///< "model.layers.0.mlp"
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  bool bias = false;
};

class Mlp {
 public:
  Mlp(const LayerContext& context, const MlpSpec& spec);

  void declare(std::vector<Parameter>& parameters);
  /// x [T, H] -> y [T, H].
  void forward(ConstTensorView x, TensorView y, Arena& arena) const;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const;

 private:
  LayerContext context_;
  MlpSpec spec_;
  Linear gate_up_proj_;  // [2 I, H]
  Linear down_proj_;     // [H, I]
};

}  // namespace octet
