// SPDX-License-Identifier: Apache-2.0
/// What a layer needs from a checkpoint, and where it goes. Layers declare parameters; `loading/` fills them.
/// Neither the layer opens a file nor the loader knows a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "octet/core/quant_matrix.h"
#include "octet/core/shape.h"
#include "octet/core/tensor.h"
#include "octet/quant/quant_spec.h"

namespace octet {

/// A norm weight or a bias; merged biases stand one after another. Or a scale of activations.
struct StoredVector {
  std::string name;
  int64_t size = 0;
  Tensor tensor;       ///< [size]; empty until loading, or for good when an optional parameter is absent
  bool exact = false;  ///< a scale: kept in the file's dtype, whatever is computed in
};

/// A matrix of a layer, alone or merged from several matrices of the checkpoint one below the other (qkv,
/// gate_up). Its memory is taken by the loader with the first piece that arrives.
struct StoredMatrix {
  std::string name;                  ///< for people: "model.layers.0.self_attn.qkv_proj"
  int64_t rows = 0;                  ///< N, over all members
  int64_t cols = 0;                  ///< K
  std::vector<int64_t> member_rows;  ///< rows of each member, in order; the members' scale grids begin anew
  StorageRule rule;
  bool lookup_only = false;  ///< a table that is never multiplied with: row-major on every backend
  bool exact = false;        ///< a router: never rounded to the dtype that is computed in
  QuantMatrix matrix;        ///< [rows, cols]; empty until loading
  /// For static activations: the scale [1] of each member, as in the file. Empty where they are not asked
  /// for.
  std::vector<StoredVector> input_scales = {};
  /// The scale in force, set by the loader: the largest of `input_scales`, so that the input which the
  /// members share is clamped for none of them earlier than its own scale would.
  std::optional<float> input_scale = std::nullopt;
};

/// The part of a checkpoint's tensor that this rank holds, in indices of the whole tensor; nullopt: not cut.
/// Ranges of several ranks may be the same (fewer key/value heads than ranks), of different sizes, and empty.
struct TensorSlice {
  std::optional<IndexRange> rows = std::nullopt;  ///< of a matrix; the elements of a vector
  std::optional<IndexRange> cols = std::nullopt;  ///< of a matrix only
};

/// Where else the matrix of one expert may stand: in a tensor of three dimensions with those of all experts.
/// Octet shows and stores every expert on its own, whatever the file's layout.
struct ExpertPlace {
  std::string
      experts;        ///< "model.layers.0.mlp.experts": tensors of single experts are "<experts>.<number>..."
  std::string fused;  ///< "model.layers.0.mlp.experts.gate_up_proj", with or without ".weight"
  int64_t index = 0;  ///< of the expert
  int64_t count = 0;  ///< experts that the configuration has
  int64_t first_row = 0;  ///< of this matrix in the expert's part of the fused tensor
  int64_t rows = 0;       ///< of that part: [count, rows, cols], or transposed [count, cols, rows]
};

/// One tensor of the checkpoint.
struct Parameter {
  std::string name;  ///< "model.layers.0.self_attn.q_proj.weight"
  Shape shape;       ///< in the checkpoint, uncut: [rows, cols] or [size]
  std::variant<StoredMatrix*, StoredVector*> destination;  ///< owned by the layer, which outlives the loading
  int64_t offset = 0;  ///< first row (matrix) or element (vector) of the destination
  bool required = true;
  /// A second name of the same weight ("lm_head.weight" of a tied model): read in the place of `name` when
  /// only it is there, compared when both are, and never an error either way. Empty for none.
  std::string twin;
  /// What of it goes to the destination, whose sizes, `member_rows` and `offset` count this rank's rows only.
  TensorSlice slice = {};
  std::optional<ExpertPlace> expert = std::nullopt;
};

}  // namespace octet
