// SPDX-License-Identifier: Apache-2.0
/// A mixture of experts: each token goes through the few experts its router chooses, and, in some models,
/// through one that all tokens share. Over ranks every expert is cut as an MLP is, and the router is whole on
/// each.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octet/layers/experts.h"
#include "octet/layers/mlp.h"
#include "octet/layers/router.h"

namespace octet {

/// Names below the layer's own; `module` is prefixed with the layer.
struct ExpertNames {
  std::string module = "mlp";  ///< "block_sparse_moe" in Mixtral
  std::string other_module;    ///< another name that it may have in the files; empty: none
  std::string gate_proj = "gate_proj";
  std::string up_proj = "up_proj";
  std::string down_proj = "down_proj";
  std::string shared = "shared_expert";
  std::string shared_gate = "shared_expert_gate";
};

struct MoeSpec {
  ExpertNames names;
  int64_t intermediate_size = 0;         ///< of each expert
  int64_t shared_intermediate_size = 0;  ///< 0: no shared expert
  bool shared_gated = false;             ///< the shared expert's output is weighed by the sigmoid of its gate
  /// module, alias, shared_gate and hidden_size are filled in for each layer.
  RouterSpec router;
};

class Moe final : public FeedForward {
 public:
  /// `layer` is the name of the decoder layer: "model.layers.0".
  Moe(const LayerContext& context, const MoeSpec& spec, const std::string& layer, int64_t hidden_size);

  void declare(std::vector<Parameter>& parameters) override;
  void forward(ConstTensorView x, TensorView y, Arena& arena) const override;
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const override;

 private:
  /// Which rows are whose once they stand sorted by expert.
  struct Dispatch {
    std::span<int32_t> experts;  ///< [T * k]
    std::span<int32_t> starts;   ///< [E + 1] first row of each expert
    std::span<int32_t> tokens;   ///< [T * k] the token of each row
    std::span<int32_t> rows;     ///< [T * terms] the rows that make up each token
  };
  [[nodiscard]] Dispatch take_dispatch(int64_t tokens, Arena& arena) const;
  void sort_by_expert(int64_t tokens, const Dispatch& dispatch) const;
  [[nodiscard]] int64_t terms() const { return spec_.router.experts_per_token + (shared_ ? 1 : 0); }

  LayerContext context_;
  MoeSpec spec_;
  int64_t hidden_size_;
  Router router_;
  ExpertLinear gate_up_proj_;  // E of [2 I, H]
  ExpertLinear down_proj_;     // E of [H, I]
  std::unique_ptr<Mlp> shared_;
};

}  // namespace octet
