// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/destination_rules.h"

#include <algorithm>

#include "octet/base/checked_math.h"

namespace octet {
namespace {

enum class Scales { kNone, kRow, kGrid };

Scales scales_of(const Piece& piece) {
  if (piece.kind == PieceKind::kQuantize) {
    if (piece.rule.raw_cast) return Scales::kNone;
    return piece.rule.granularity == Granularity::kBlock ? Scales::kGrid : Scales::kRow;
  }
  switch (piece.file_scales) {
    case FileScales::kNone:
      return Scales::kNone;
    case FileScales::kScalar:
    case FileScales::kRows:
      return Scales::kRow;
    case FileScales::kGrid:
      return Scales::kGrid;
  }
  return Scales::kNone;
}

DType stored_dtype(const Piece& piece, DType compute_dtype) {
  const DType found = piece.source->dtype;
  switch (piece.kind) {
    case PieceKind::kQuantize:
      return piece.rule.format;
    case PieceKind::kAdopt:
      return found;
    case PieceKind::kStore: {
      const bool exact =
          std::visit([](const auto* target) { return target->exact; }, piece.parameter->destination);
      return exact || widens_exactly(found, compute_dtype) ? found : compute_dtype;
    }
  }
  return found;
}

std::string describe(const Piece& piece, DType compute_dtype) {
  std::string text =
      quote(piece.source->name) + " (" + std::string(to_string(stored_dtype(piece, compute_dtype)));
  if (!is_fp8(stored_dtype(piece, compute_dtype))) return text + ")";
  switch (scales_of(piece)) {
    case Scales::kNone:
      return text + " without scales)";
    case Scales::kRow:
      return text + " with a scale per row)";
    case Scales::kGrid:
      return text + " with a scale per block)";
  }
  return text;
}

/// What the members of one matrix have in common.
class Members {
 public:
  Members(const Destination& destination, const std::vector<Piece>& pieces, DType compute_dtype)
      : compute_dtype_(compute_dtype) {
    for (const size_t index : destination.pieces) members_.push_back(&pieces[index]);
  }

  /// nullopt where FP8 stands beside another dtype.
  [[nodiscard]] std::optional<DType> dtype() const {
    const DType first = stored_dtype(*members_.front(), compute_dtype_);
    bool all_equal = true;
    bool any_fp8 = false;
    for (const Piece* piece : members_) {
      const DType dtype = stored_dtype(*piece, compute_dtype_);
      all_equal = all_equal && dtype == first;
      any_fp8 = any_fp8 || is_fp8(dtype);
    }
    if (all_equal) return first;
    return any_fp8 ? std::nullopt : std::optional(compute_dtype_);
  }

  /// nullopt where a grid stands beside something else.
  [[nodiscard]] std::optional<ScaleKind> scale_kind() const {
    int rows = 0;
    int grids = 0;
    for (const Piece* piece : members_) {
      rows += scales_of(*piece) == Scales::kRow ? 1 : 0;
      grids += scales_of(*piece) == Scales::kGrid ? 1 : 0;
    }
    if (grids == 0) return rows == 0 ? ScaleKind::kNone : ScaleKind::kRow;
    if (grids == static_cast<int>(members_.size())) return ScaleKind::kGrid;
    return std::nullopt;
  }

  [[nodiscard]] std::string describe() const {
    std::string text;
    for (const Piece* piece : members_)
      text += (text.empty() ? "" : ", ") + octet::describe(*piece, compute_dtype_);
    return text;
  }

 private:
  std::vector<const Piece*> members_;
  DType compute_dtype_;
};

/// Rows of a matrix, elements of a vector.
int64_t length_of(const Destination& destination, const Piece& piece) {
  return destination.is_vector() ? piece.cols : piece.rows;
}

void check_coverage(const Destination& destination, const std::vector<Piece>& pieces, Faults& faults) {
  const bool vector = destination.is_vector();
  const std::string unit = vector ? "elements" : "rows";
  const int64_t size = vector ? destination.spec.cols : destination.spec.rows;
  const auto range = [](int64_t begin, int64_t end) {
    return std::to_string(begin) + " to " + std::to_string(end - 1);
  };
  int64_t filled = 0;
  for (const size_t index : destination.pieces) {
    const Piece& piece = pieces[index];
    const int64_t end = piece.offset + length_of(destination, piece);
    if (!vector && piece.cols != destination.spec.cols) {
      faults.add(quote(destination.name()) + ": " + quote(piece.source->name) + " has " +
                 std::to_string(piece.cols) + " columns, expected " + std::to_string(destination.spec.cols));
    }
    if (piece.offset < filled) {
      faults.add(quote(destination.name()) + ": " + quote(piece.source->name) + " would write " + unit + " " +
                 range(piece.offset, std::min(end, filled)) + " a second time");
    } else if (piece.offset > filled && !destination.incomplete) {
      faults.add(quote(destination.name()) + ": nothing fills " + unit + " " + range(filled, piece.offset));
    }
    filled = std::max(filled, end);
  }
  if (filled > size) {
    faults.add(quote(destination.name()) + ": has " + std::to_string(size) + " " + unit +
               ", its parameters write " + std::to_string(filled));
  } else if (filled < size && !destination.incomplete) {
    faults.add(quote(destination.name()) + ": nothing fills " + unit + " " + range(filled, size));
  }
}

void resolve_matrix(Destination& destination, const std::vector<Piece>& pieces, const DestinationRules& rules,
                    Faults& faults) {
  const StoredMatrix& matrix = *std::get<StoredMatrix*>(destination.target);
  MatrixSpec& spec = destination.spec;
  spec.layout = matrix.lookup_only ? MatrixLayout::kRowMajor : rules.weight_layout;
  const Members members(destination, pieces, matrix.exact ? DType::kF32 : rules.compute_dtype);
  const auto dtype = members.dtype();
  const auto kind = members.scale_kind();
  if (!dtype || !kind) {
    faults.add("the members of " + quote(destination.name()) +
               " are merged into one matrix and must be stored alike: " + members.describe());
    return;
  }
  spec.dtype = *dtype;
  spec.scale_kind = *kind;
  if (spec.scale_kind != ScaleKind::kGrid) return;
  for (const size_t index : destination.pieces) {
    const Piece& piece = pieces[index];
    append_scale_part(spec.parts, piece.rows, piece.cols,
                      ScalePart{.block_rows = piece.block.rows,
                                .block_cols = piece.block.cols,
                                .row_phase = piece.first_row % piece.block.rows,
                                .col_phase = piece.first_col % piece.block.cols});
  }
}

}  // namespace

void resolve_destination(Destination& destination, std::vector<Piece>& pieces, const DestinationRules& rules,
                         Faults& faults) {
  std::sort(destination.pieces.begin(), destination.pieces.end(),
            [&](size_t a, size_t b) { return pieces[a].offset < pieces[b].offset; });
  MatrixSpec& spec = destination.spec;
  if (auto* const* vector = std::get_if<StoredVector*>(&destination.target)) {
    spec = {.dtype = rules.compute_dtype, .rows = 1, .cols = (*vector)->size, .parts = {}};
  } else {
    const StoredMatrix& matrix = *std::get<StoredMatrix*>(destination.target);
    spec = {.dtype = rules.compute_dtype, .rows = matrix.rows, .cols = matrix.cols, .parts = {}};
  }
  if (destination.pieces.empty()) return;
  check_coverage(destination, pieces, faults);
  if (destination.is_vector()) {
    const auto dtype = Members(destination, pieces, rules.compute_dtype).dtype();
    spec.dtype = dtype.value_or(rules.compute_dtype);
  } else {
    resolve_matrix(destination, pieces, rules, faults);
  }
}

namespace {

/// Sizes of 1 left out: [nb, 1, kb, 1] is [nb, kb], [1] is [].
std::vector<int64_t> squeezed(const std::vector<int64_t>& shape) {
  std::vector<int64_t> sizes;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(sizes), [](int64_t size) { return size != 1; });
  return sizes;
}

bool is_grid_of(const Piece& piece, BlockSize block, int64_t grid_rows, int64_t grid_cols) {
  return block.rows > 0 && block.cols > 0 && ceil_div(piece.full_rows, block.rows) == grid_rows &&
         ceil_div(piece.full_cols, block.cols) == grid_cols;
}

/// Without a configuration a grid is of 128 x 128, or of the one block that divides the matrix evenly.
std::optional<BlockSize> find_block(const Piece& piece, int64_t grid_rows, int64_t grid_cols) {
  const BlockSize usual{.rows = kScaleBlock, .cols = kScaleBlock};
  if (is_grid_of(piece, usual, grid_rows, grid_cols)) return usual;
  if (piece.full_rows % grid_rows != 0 || piece.full_cols % grid_cols != 0) return std::nullopt;
  return BlockSize{.rows = piece.full_rows / grid_rows, .cols = piece.full_cols / grid_cols};
}

}  // namespace

std::optional<std::string> fit_scales(Piece& piece, const std::optional<BlockSize>& given) {
  const SourceTensor& scales = *piece.scales;
  if (!is_real(scales.dtype) && scales.dtype != DType::kF8E8M0) {
    return "expected scales in F32, F16, BF16 or F8_E8M0, found " + std::string(to_string(scales.dtype));
  }
  const std::vector<int64_t> sizes = squeezed(scales.shape);
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end())
    return "expected scales, found " + to_string(scales.shape);
  // The one block of a small matrix: told from a scalar by its two dimensions, where blocks are what the file
  // has.
  const bool one_block = given && scales.shape.size() == 2 && is_grid_of(piece, *given, 1, 1);
  if (sizes.empty() && !one_block) {
    piece.file_scales = FileScales::kScalar;
    return std::nullopt;
  }
  if (sizes.size() == 1 && sizes.front() == piece.full_rows && scales.rows() == piece.full_rows) {
    piece.file_scales = FileScales::kRows;
    return std::nullopt;
  }
  // A grid of one row or column lost its size of 1 above: ask the first dimension which it was.
  const int64_t grid_rows = scales.rows();
  const int64_t grid_cols = scales.elements() / grid_rows;
  const auto block = given && is_grid_of(piece, *given, grid_rows, grid_cols)
                         ? given
                         : find_block(piece, grid_rows, grid_cols);
  if (sizes.size() > 2 || !block) {
    return "found scales of shape " + to_string(scales.shape) + " for a weight of [" +
           std::to_string(piece.full_rows) + ", " + std::to_string(piece.full_cols) +
           "], expected one, one per row or one per block" +
           (given ? " of " + std::to_string(given->rows) + " x " + std::to_string(given->cols) : "");
  }
  piece.file_scales = FileScales::kGrid;
  piece.block = *block;
  return std::nullopt;
}

}  // namespace octet
