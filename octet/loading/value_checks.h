// SPDX-License-Identifier: Apache-2.0
/// Which values of weights are refused, in the words of loader and exporter alike.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "octet/loading/binding.h"
#include "octet/loading/tile_filler.h"

namespace octet {

/// Pieces [first, last) of the bindings.
struct PieceSpan {
  size_t first = 0;
  size_t last = 0;
};

struct ValueRules {
  std::string source;  ///< for messages
  bool allow_nonfinite = false;
};

/// Throws FormatError naming every piece with NaN or infinity where it is quantized, or with a value beyond
/// the dtype it is stored in. `results` belong to `bindings.pieces`, one by one.
void check_values(const Bindings& bindings, std::span<const TileResult> results, PieceSpan pieces,
                  const ValueRules& rules);

}  // namespace octet
