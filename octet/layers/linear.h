// SPDX-License-Identifier: Apache-2.0
/// y = x * W^T + b: the layer that nearly all of a model's bytes are in.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/context.h"
#include "octet/layers/parameter.h"

namespace octet {

/// One matrix of the checkpoint inside a (perhaps merged) linear layer.
struct LinearMember {
  std::string module;  ///< checkpoint name without ".weight" and ".bias"
  int64_t out_features = 0;
  std::optional<IndexRange> rows = std::nullopt;  ///< those that this rank holds; nullopt: all
};

struct LinearSpec {
  std::string name;                   ///< for people and reports
  std::vector<LinearMember> members;  ///< stacked one below the other: [q; k; v], [gate; up], or one
  int64_t in_features = 0;
  bool bias = false;
  /// The columns that this rank holds; nullopt: all. The results of the ranks are then parts of a sum, and
  /// rank 0's has the bias.
  std::optional<IndexRange> cols = std::nullopt;
};

/// Stored in FP8 or as in the file, as the QuantSpec says for its members, which must agree.
class Linear {
 public:
  /// Throws ConfigError when the options treat the members differently.
  Linear(const LayerContext& context, LinearSpec spec);
  Linear(const Linear&) = delete;  // parameters point into it
  Linear& operator=(const Linear&) = delete;

  /// Appends this layer's parameters; they point into the layer.
  void declare(std::vector<Parameter>& parameters);

  /// Of this rank.
  [[nodiscard]] int64_t in_features() const { return weight_.cols; }
  [[nodiscard]] int64_t out_features() const { return weight_.rows; }
  /// For layers that multiply with parts of it themselves.
  [[nodiscard]] const StoredMatrix& weight() const { return weight_; }

  /// x [T, in] float32 -> y [T, out] float32. Scratch comes from the arena and is given back.
  void forward(ConstTensorView x, TensorView y, Arena& arena) const;
  /// Bytes of arena that `forward` needs at most.
  [[nodiscard]] int64_t scratch_bytes(int64_t tokens) const;

 private:
  [[nodiscard]] IndexRange bias_range(const LinearMember& member) const;

  LayerContext context_;
  LinearSpec spec_;
  StoredMatrix weight_;  // [out, in], this rank's part
  StoredVector bias_;    // [out] or empty
};

/// The multiply of a stored matrix with activations as it is stored and as the options say: what Linear and
/// the head share. The matrix must be loaded.
void multiply(const LayerContext& context, const StoredMatrix& weight, ConstTensorView x,
              ConstTensorView bias, TensorView y, Arena& arena);
/// Room for FP8 activations [tokens, cols]: one scale per token (group = 0) or per run of `group` columns.
struct QuantizedRows {
  ScalePart grid;
  QuantMatrixView view;  ///< its parts point to `grid`
};
void take_codes(Arena& arena, int64_t tokens, int64_t cols, int64_t group, QuantizedRows& into);
/// Appends the parameters of static activations, one scale for each member, where the options ask for them:
/// "<module>.input_scale" or "<module>.activation_scale". They point into `weight`.
void declare_input_scales(const LayerContext& context, std::span<const std::string> modules,
                          StoredMatrix& weight, std::vector<Parameter>& parameters);
/// Arena bytes that `multiply` needs at most, whatever the matrix turns out to be in the file.
[[nodiscard]] int64_t multiply_scratch_bytes(const LayerContext& context, const StoredMatrix& weight,
                                             int64_t tokens);

}  // namespace octet
