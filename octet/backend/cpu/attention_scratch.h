// SPDX-License-Identifier: Apache-2.0
/// How the working memory of attention is laid out for a thread.
#pragma once

#include "octet/backend/cpu/ops_kernels.h"
#include "octet/base/checked_math.h"

namespace octet {

/// For heads of one size, in floats.
class AttentionScratchLayout {
 public:
  explicit AttentionScratchLayout(int64_t head_dim) : head_(round_up(head_dim, 2 * kHeadPadding)) {}

  [[nodiscard]] int64_t floats() const {
    return queries() + 2 * rows() + (kTileQueries + 2) * kChunkKeys + kSumFloats + kTileScratch;
  }
  /// `memory`: floats() of them.
  [[nodiscard]] AttentionScratch at(float* memory) const {
    float* keys = memory + queries();
    float* scores = keys + 2 * rows();
    float* key_scales = scores + kTileQueries * kChunkKeys;
    return {.q = memory,
            .keys = keys,
            .values = keys + rows(),
            .scores = scores,
            .key_scales = key_scales,
            .value_scales = key_scales + kChunkKeys,
            .sums = key_scales + 2 * kChunkKeys,
            .tiles = key_scales + 2 * kChunkKeys + kSumFloats};
  }

 private:
  [[nodiscard]] int64_t queries() const { return kTileQueries * head_ * kQueryParts / 2; }
  [[nodiscard]] int64_t rows() const { return kChunkKeys * widened_stride(head_); }

  int64_t head_;
};

}  // namespace octet
