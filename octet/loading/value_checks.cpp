// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/value_checks.h"

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {

void check_values(const Bindings& bindings, std::span<const TileResult> results, PieceSpan pieces,
                  const ValueRules& rules) {
  Faults faults;
  for (size_t i = pieces.first; i < pieces.last; ++i) {
    const Piece& piece = bindings.pieces[i];
    const TileResult& result = results[i];
    if (piece.kind == PieceKind::kQuantize && result.nonfinite > 0 && !rules.allow_nonfinite) {
      faults.add(place(*piece.source) + ": " + std::to_string(result.nonfinite) +
                 " values are NaN or infinite, the first in row " +
                 std::to_string(result.first_nonfinite_row) + "; --allow-nonfinite loads them all the same");
    }
    if (result.overflow) {
      faults.add(place(*piece.source) + ": holds values beyond the range of " +
                 std::string(to_string(bindings.destinations[piece.destination].spec.dtype)) +
                 "; choose --dtype bfloat16 or float32");
    }
  }
  faults.throw_if_any<FormatError>(rules.source);
}

}  // namespace octet
