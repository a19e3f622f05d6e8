// SPDX-License-Identifier: Apache-2.0
/// Which tensor of the checkpoint fills which rows of which destination, and how: decided from parameters and
/// headers alone, before memory is taken or a weight is read. The memory plan and the loader both work from
/// it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "octet/layers/parameter.h"
#include "octet/loading/load_options.h"
#include "octet/loading/weight_source.h"

namespace octet {

enum class PieceKind {
  kStore,     ///< copied, or rounded once to the compute dtype
  kQuantize,  ///< real in the file, FP8 in memory
  kAdopt,     ///< FP8 in the file and in memory
};

/// How the scales of an adopted tensor lie in the file.
enum class FileScales { kNone, kScalar, kRows, kGrid };

/// One tensor on its way to its rows. Pointers are into the parameters and the source.
struct Piece {
  const Parameter* parameter = nullptr;
  const SourceTensor* source = nullptr;
  const SourceTensor* twin = nullptr;    ///< a second copy, compared only
  const SourceTensor* scales = nullptr;  ///< of an adopted tensor
  FileScales file_scales = FileScales::kNone;
  BlockSize block;  ///< of a grid, given or adopted
  PieceKind kind = PieceKind::kStore;
  StorageRule rule;  ///< for kQuantize
  size_t destination = 0;
  int64_t offset = 0;  ///< first row of the matrix, or first element of the vector
  int64_t rows = 0;    ///< of this rank's slice; a vector is one row
  int64_t cols = 0;
  int64_t full_rows = 0;  ///< of the tensor; a vector is one row
  int64_t full_cols = 0;
  int64_t first_row = 0;  ///< of the slice in the tensor
  int64_t first_col = 0;
  /// Whether on some rank a scale of this tensor covers elements of another rank, so that maxima must be
  /// exchanged before a code is made.
  bool shared_scales = false;

  [[nodiscard]] bool cuts_columns() const { return cols != full_cols; }
  /// Of the slice, in the source.
  [[nodiscard]] int64_t bytes() const { return rows * cols * dtype_size(source->dtype); }
};

/// One matrix or vector of a layer and what it will be. A vector is a row-major matrix of one row.
struct Destination {
  std::variant<StoredMatrix*, StoredVector*> target;
  MatrixSpec spec;
  std::vector<size_t> pieces;  ///< by ascending offset; none: an optional parameter that is absent

  bool incomplete = false;  ///< a required piece is missing, which is reported on its own

  [[nodiscard]] bool is_vector() const { return std::holds_alternative<StoredVector*>(target); }
  [[nodiscard]] const std::string& name() const;
};

struct Bindings {
  std::vector<Piece> pieces;                 ///< in the order of the source
  std::vector<Destination> destinations;     ///< in the order of the parameters
  std::vector<const SourceTensor*> unused;   ///< no parameter asks for them
  std::vector<const SourceTensor*> skipped;  ///< matched LoadOptions::skip, or copies that cannot be compared
  std::vector<std::string> absent;           ///< optional parameters that the source lacks
};

/// Pieces [first, second).
using PieceRange = std::pair<size_t, size_t>;

/// The pieces from `first` on that a session passes through together: 256 MiB or the one that exceeds it. By
/// the sizes of whole tensors, so that all ranks have the same batches.
[[nodiscard]] PieceRange next_batch(std::span<const Piece> pieces, size_t first);

/// Throws FormatError (file) or ConfigError (options) with every fault together: missing tensors, wrong
/// shapes and dtypes, rows that would be written twice or not at all, members of a merged matrix that are
/// stored differently. `parameters` and `source` must outlive the result.
[[nodiscard]] Bindings bind_parameters(std::span<const Parameter> parameters, const WeightSource& source,
                                       const LoadOptions& options, const LoadTarget& target);

/// For messages: "model.safetensors: tensor 'lm_head.weight'".
[[nodiscard]] std::string place(const SourceTensor& tensor);
/// "[2, 3]"
[[nodiscard]] std::string to_string(std::span<const int64_t> shape);

}  // namespace octet
