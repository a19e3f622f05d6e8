// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/value_checks.h"

#include <utility>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/loading/piece_values.h"

namespace octet {

void check_values(const Bindings& bindings, std::span<const TileResult> results, PieceSpan pieces,
                  const ValueRules& rules) {
  Faults faults;
  for (size_t i = pieces.first; i < pieces.last; ++i) {
    const Piece& piece = bindings.pieces[i];
    const DType stored = bindings.destinations[piece.destination].spec.dtype;
    if (auto fault = value_fault(piece, results[i], stored, rules.allow_nonfinite))
      faults.add(std::move(*fault));
  }
  faults.throw_if_any<FormatError>(rules.source);
}

}  // namespace octet
