// SPDX-License-Identifier: Apache-2.0
/// Scales that cover elements of several ranks: which they are, and how their maxima become those of the
/// tensor that was never cut.
#pragma once

#include "octet/loading/binding.h"
#include "octet/loading/load_peers.h"

namespace octet {

/// The scales of one tensor of the checkpoint as a table, and which of them this rank's slice touches.
struct ScaleTable {
  int64_t rows = 0;  ///< of the whole tensor
  int64_t cols = 0;
  IndexRange own_rows;
  IndexRange own_cols;

  [[nodiscard]] int64_t own_count() const { return own_rows.size() * own_cols.size(); }
};
/// Of a piece that is quantized with scales, or adopted with a grid.
[[nodiscard]] ScaleTable scale_table(const Piece& piece);

/// Whether a scale of this piece covers elements that this rank does not hold.
[[nodiscard]] bool covers_other_ranks(const Piece& piece);

/// Sets `shared_scales` of each piece to what any rank says of it. Throws on all ranks unless they have
/// equally many pieces; ArgumentError where scales are shared and there is nobody to share them with.
void agree_on_shared_scales(std::vector<Piece>& pieces, LoadPeers* peers);

/// Replaces the maxima of a piece, one for each own scale of its table in row-major order, by the largest
/// over the ranks. Every rank calls it for the same pieces in the same order.
void share_maxima(const Piece& piece, LoadPeers& peers, float* maxima);

}  // namespace octet
