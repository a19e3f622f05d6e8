// SPDX-License-Identifier: Apache-2.0
/// What a destination becomes from the pieces that fill it: dtype, scales, and the proof that every row is
/// filled once.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "octet/base/faults.h"
#include "octet/loading/binding.h"

namespace octet {

struct DestinationRules {
  DType compute_dtype = DType::kBF16;
  MatrixLayout weight_layout = MatrixLayout::kRowMajor;
};

/// Sorts the pieces of `destination` by offset and sets its spec; adds what is wrong to `faults`.
///
/// Pieces that are not FP8 take the dtype of the file where it widens exactly to the compute dtype, else the
/// compute dtype (exact ones always that of the file); where the members of a merged matrix disagree they all
/// take the compute dtype. Members in FP8 must share the format; members without scales beside members with a
/// scale per row get the scale 1; grids stand only beside grids.
void resolve_destination(Destination& destination, std::vector<Piece>& pieces, const DestinationRules& rules,
                         Faults& faults);

/// Decides how the scales of an adopted piece lie (file_scales and block); returns what is wrong with them.
/// `given` is the block of the checkpoint's configuration.
[[nodiscard]] std::optional<std::string> fit_scales(Piece& piece, const std::optional<BlockSize>& given);

}  // namespace octet
