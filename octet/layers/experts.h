// SPDX-License-Identifier: Apache-2.0
/// One projection of all experts of a layer: a matrix for each expert, quantized and named on its own, and a
/// multiply that touches only the experts that have tokens.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

struct ExpertLinearSpec {
  std::string name;                  ///< "model.layers.0.mlp.experts"; a matrix is "<name>.<expert>.<member>"
  std::vector<std::string> members;  ///< stacked one below the other: {"gate_proj", "up_proj"}, or one
  std::string fused;                 ///< one tensor of all experts and members, where a file has it instead
  int64_t num_experts = 0;           // E
  int64_t member_features = 0;       ///< rows of each member
  int64_t in_features = 0;
  /// Of a model that is cut: the rows of each member, or the columns, that this rank holds; nullopt: all.
  std::optional<IndexRange> rows = std::nullopt;
  std::optional<IndexRange> cols = std::nullopt;
};

class ExpertLinear {
 public:
  /// Throws ConfigError when the options treat the members of an expert differently.
  ExpertLinear(const LayerContext& context, ExpertLinearSpec spec);
  ExpertLinear(const ExpertLinear&) = delete;  // parameters point into it
  ExpertLinear& operator=(const ExpertLinear&) = delete;

  void declare(std::vector<Parameter>& parameters);
  /// Of this rank.
  [[nodiscard]] int64_t out_features() const;
  [[nodiscard]] int64_t in_features() const { return weights_.front().cols; }

  /// Rows [starts[e], starts[e + 1]) of x [R, in] go through expert e: y [R, out]; starts [E + 1].
  void forward(ConstTensorView x, std::span<const int32_t> starts, TensorView y, Arena& arena) const;
  [[nodiscard]] int64_t scratch_bytes(int64_t rows) const;

 private:
  [[nodiscard]] std::vector<std::string> modules(int64_t expert) const;
  [[nodiscard]] int64_t member_rows() const;  // of this rank
  void multiply_quantized(ConstTensorView x, std::span<const MatrixGroup> groups,
                          std::span<const int32_t> experts, TensorView y, Arena& arena) const;

  LayerContext context_;
  ExpertLinearSpec spec_;
  std::vector<StoredMatrix> weights_;  // E of [members * member_features, in]
};

}  // namespace octet
