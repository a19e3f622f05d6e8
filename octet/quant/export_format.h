// SPDX-License-Identifier: Apache-2.0
/// The checkpoint formats in which Octet writes FP8 weights: what each can say, how its scales are named and
/// shaped, and its entry in config.json. The other direction of quant_config.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/json.h"
#include "octet/quant/quant_spec.h"

namespace octet {

enum class ExportFormat {
  kRaw,  ///< as Octet holds it: whatever the options say, float32 `weight_scale` per row or per block
  kCompressedTensors,  ///< the public layout: `weight_scale` [1], [N, 1] or a grid
  kFp8,                ///< quant_method "fp8" with one scalar `weight_scale` for each matrix
  kFp8Block,           ///< quant_method "fp8" with `weight_scale_inv` for each 128 x 128 block
};
[[nodiscard]] std::string_view to_string(ExportFormat format);

/// Which elements of a matrix share a scale.
enum class ScaleSharing { kNone, kTensor, kRow, kBlock };

/// One matrix in FP8, as it is to be written.
struct ExportedMatrix {
  std::string module;  ///< the checkpoint's name without ".weight"
  WeightRole role = WeightRole::kLinear;
  DType dtype = DType::kF8E4M3;
  ScaleSharing sharing = ScaleSharing::kRow;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t block_rows = 0;  ///< for kBlock
  int64_t block_cols = 0;

  [[nodiscard]] int64_t grid_rows() const;
  [[nodiscard]] int64_t grid_cols() const;
};

/// What config.json says of all of them.
struct ExportedQuantization {
  ScaleSharing sharing =
      ScaleSharing::kNone;  ///< of all matrices; kRaw: kBlock where any has blocks, else kNone
  int64_t block_rows = 0;
  int64_t block_cols = 0;
  ActivationScheme activations = ActivationScheme::kDynamic;  ///< kNone, kDynamic or kStatic
  bool embedding = false;                                     ///< a table that is looked up is among them
  std::vector<std::string> ignore;                            ///< linear layers that are not in FP8
};

/// Checks that `format` can say what `matrices` are and sets sharing, block and embedding of the result.
/// Throws ConfigError with every reason, each with what to do: the first module it holds for, and for how
/// many.
[[nodiscard]] ExportedQuantization express(ExportFormat format, const std::vector<ExportedMatrix>& matrices,
                                           ActivationScheme activations);

/// "_scale" or "_scale_inv", behind the name of the weight.
[[nodiscard]] std::string_view scale_suffix(ExportFormat format);
/// The shape of the scales of `matrix`, float32; nullopt: it has none. `sharing` is that of the whole
/// checkpoint: where it is kRow, a matrix with one scale has it spread to its rows.
[[nodiscard]] std::optional<std::vector<int64_t>> scale_shape(ExportFormat format,
                                                              const ExportedMatrix& matrix,
                                                              ScaleSharing sharing);
/// The shape of the scale of a matrix's input.
[[nodiscard]] std::vector<int64_t> input_scale_shape(ExportFormat format);

/// The value of "quantization_config".
[[nodiscard]] Json quantization_entry(ExportFormat format, const ExportedQuantization& quantization);

}  // namespace octet
