// SPDX-License-Identifier: Apache-2.0
/// Which part of a layer a rank holds when a model is cut over several (`docs/parallel.md`).
#pragma once

#include <cstdint>

#include "octet/comm/communicator.h"
#include "octet/core/shape.h"

namespace octet {

/// A rank's part of a width (the features between two matrices, the rows of a vocabulary): cut at multiples
/// of 128, 64 or 16 where every rank gets several of them, so that panels and blocks of scales are seldom
/// cut; at any number otherwise. Throws ConfigError for a width smaller than the number of ranks.
[[nodiscard]] IndexRange width_share(int64_t width, int64_t rank, int64_t ranks);
[[nodiscard]] inline IndexRange width_share(int64_t width, const Communicator& communicator) {
  return width_share(width, communicator.rank(), communicator.world_size());
}

/// The heads of a rank: every key/value head with all its queries; or, where there are more ranks than
/// key/value heads, one of them, which other ranks hold as well, with a part of its queries.
struct HeadShare {
  IndexRange query_heads;
  IndexRange key_value_heads;
};
/// Throws ConfigError where there are fewer query heads than ranks.
[[nodiscard]] HeadShare head_share(int64_t num_attention_heads, int64_t num_key_value_heads,
                                   const Communicator& communicator);

/// The elements of these heads.
[[nodiscard]] inline IndexRange elements_of(IndexRange heads, int64_t head_dim) {
  return {.begin = heads.begin * head_dim, .end = heads.end * head_dim};
}

}  // namespace octet
