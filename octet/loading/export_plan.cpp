// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/export_plan.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr std::string_view kWeightSuffix = ".weight";

std::string module_of(std::string_view tensor) {
  if (tensor.ends_with(kWeightSuffix)) tensor.remove_suffix(kWeightSuffix.size());
  return std::string(tensor);
}

/// "q_proj.input_scale" also of "q_proj.activation_scale", as transformers calls it; empty: no scale of an
/// input.
std::string input_scale_name(const std::string& name) {
  for (const std::string_view suffix : {".input_scale", ".activation_scale"}) {
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size()) + ".input_scale";
  }
  return "";
}

ScaleSharing sharing_of(const Piece& piece, const MatrixSpec& spec) {
  if (spec.scale_kind == ScaleKind::kNone) return ScaleSharing::kNone;
  if (spec.scale_kind == ScaleKind::kGrid) return ScaleSharing::kBlock;
  if (piece.kind == PieceKind::kQuantize) {
    const bool rows = !piece.rule.raw_cast && piece.rule.granularity == Granularity::kChannel;
    return rows ? ScaleSharing::kRow : ScaleSharing::kTensor;
  }
  return piece.file_scales == FileScales::kRows ? ScaleSharing::kRow : ScaleSharing::kTensor;
}

int64_t count_of(const ExportedMatrix& matrix) {
  switch (matrix.sharing) {
    case ScaleSharing::kNone:
      return 0;
    case ScaleSharing::kTensor:
    case ScaleSharing::kRow:
      return matrix.rows;
    case ScaleSharing::kBlock:
      return matrix.grid_rows() * matrix.grid_cols();
  }
  return 0;
}

class Planner {
 public:
  Planner(const Bindings& bindings, const TileGeometry& geometry, const ExportOptions& options)
      : bindings_(bindings), geometry_(geometry), options_(options) {}

  ExportPlan plan() {
    for (const Piece& piece : bindings_.pieces) find_matrix(piece);
    plan_.quantization = express(options_.format, matrices_, options_.activations);
    size_t matrix = 0;
    for (const Piece& piece : bindings_.pieces) add_piece(piece, matrix);
    for (const SourceTensor* tensor : bindings_.unused) add_copy(*tensor);
    note_tied_head();
    plan_.shards = plan_shards(plan_.tensors, options_.max_shard_bytes);
    // What is read, what is made of it, and the scales of one batch.
    plan_.memory_bytes = geometry_.total_bytes() + geometry_.workers * plan_.tile_bytes + largest_scales_;
    return std::move(plan_);
  }

 private:
  [[nodiscard]] const MatrixSpec& spec_of(const Piece& piece) const {
    return bindings_.destinations[piece.destination].spec;
  }
  [[nodiscard]] bool is_fp8_matrix(const Piece& piece) const {
    const Destination& destination = bindings_.destinations[piece.destination];
    return !destination.is_vector() && is_fp8(destination.spec.dtype);
  }

  [[nodiscard]] WeightRole role_of(const std::string& module) const {
    if (module == options_.embedding) return WeightRole::kEmbedding;
    return module == options_.lm_head ? WeightRole::kLmHead : WeightRole::kLinear;
  }

  void find_matrix(const Piece& piece) {
    if (!is_fp8_matrix(piece)) return;
    const std::string module = module_of(piece.parameter->name);
    matrices_.push_back({.module = module,
                         .role = role_of(module),
                         .dtype = spec_of(piece).dtype,
                         .sharing = sharing_of(piece, spec_of(piece)),
                         .rows = piece.rows,
                         .cols = piece.cols,
                         .block_rows = spec_of(piece).scale_kind == ScaleKind::kGrid ? piece.block.rows : 0,
                         .block_cols = spec_of(piece).scale_kind == ScaleKind::kGrid ? piece.block.cols : 0});
  }

  size_t declare(std::string name, DType dtype, std::vector<int64_t> shape) {
    plan_.tensors.push_back({.name = std::move(name), .dtype = dtype, .shape = std::move(shape)});
    return plan_.tensors.size() - 1;
  }

  void add_piece(const Piece& piece, size_t& matrix) {
    ExportedPiece result;
    const std::string& name = piece.parameter->name;
    const bool vector = bindings_.destinations[piece.destination].is_vector();
    const std::string input_scale = vector ? input_scale_name(name) : "";
    if (!input_scale.empty()) {
      result.weight = declare(input_scale, spec_of(piece).dtype, input_scale_shape(options_.format));
    } else {
      const auto shape = vector ? std::vector{piece.cols} : std::vector{piece.rows, piece.cols};
      result.weight = declare(name, spec_of(piece).dtype, shape);
    }
    if (is_fp8_matrix(piece)) {
      add_scales(matrices_[matrix++], result);
    } else if (!vector && module_of(name) != options_.embedding) {
      plan_.quantization.ignore.push_back(module_of(name));
    }
    Piece alone = piece;
    alone.twin = nullptr;  // neither written nor compared
    plan_.read_bytes += planned_read_bytes(alone, vector, geometry_);
    const int64_t length = std::min(vector ? piece.cols : piece.rows, largest_tile(piece, vector, geometry_));
    plan_.tile_bytes =
        std::max(plan_.tile_bytes, length * (vector ? 1 : piece.cols) * dtype_size(spec_of(piece).dtype));
    plan_.bytes_before += piece.source->bytes() + (piece.scales != nullptr ? piece.scales->bytes() : 0);
    plan_.pieces.push_back(result);
  }

  void add_scales(const ExportedMatrix& matrix, ExportedPiece& result) {
    const auto shape = scale_shape(options_.format, matrix, plan_.quantization.sharing);
    result.sharing = matrix.sharing;
    if (!shape) return;
    result.scale_count = count_of(matrix);
    result.scales = declare(plan_.tensors[result.weight].name + std::string(scale_suffix(options_.format)),
                            DType::kF32, *shape);
    largest_scales_ += result.scale_count * static_cast<int64_t>(sizeof(float));
  }

  void add_copy(const SourceTensor& tensor) {
    plan_.copies.push_back({.source = &tensor, .tensor = declare(tensor.name, tensor.dtype, tensor.shape)});
    plan_.read_bytes += tensor.bytes();
    plan_.bytes_before += tensor.bytes();
    // The layers of a tower that Octet does not run are linear layers to others.
    if (tensor.shape.size() == 2 && tensor.name.ends_with(kWeightSuffix) && !is_fp8(tensor.dtype))
      plan_.quantization.ignore.push_back(module_of(tensor.name));
  }

  /// A head that shares the embedding's table has no tensor of its own, but others see it as a linear layer.
  void note_tied_head() {
    const bool in_fp8 = std::any_of(matrices_.begin(), matrices_.end(), [&](const ExportedMatrix& matrix) {
      return matrix.role != WeightRole::kLinear;
    });
    if (options_.tied && !in_fp8) plan_.quantization.ignore.push_back(options_.lm_head);
  }

  const Bindings& bindings_;
  const TileGeometry& geometry_;
  const ExportOptions& options_;
  std::vector<ExportedMatrix> matrices_;  // those in FP8, in the order of the pieces
  ExportPlan plan_;
  int64_t largest_scales_ = 0;
};

}  // namespace

ExportPlan plan_export(const Bindings& bindings, const TileGeometry& geometry, const ExportOptions& options) {
  return Planner(bindings, geometry, options).plan();
}

}  // namespace octet
