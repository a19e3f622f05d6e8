// SPDX-License-Identifier: Apache-2.0
/// The memory of the paged key/value cache: one buffer per layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

struct KvCacheSpec {
  int64_t layers = 0;
  int64_t heads = 0;     // Hk
  int64_t head_dim = 0;  // D
  DType dtype = DType::kBF16;
  int64_t block_size = 32;
  bool latent = false;  ///< each key is its own value, and stored once

  /// Keys and values of one token in all layers, scales included.
  [[nodiscard]] int64_t bytes_per_token() const;
};

class KvCache {
 public:
  /// Takes num_blocks * block_size * bytes_per_token() bytes, in the ledger under "kv_cache". Throws
  /// ArgumentError where an int32 cannot count the blocks or an int64 the bytes.
  KvCache(Backend& backend, const KvCacheSpec& spec, int64_t num_blocks);

  [[nodiscard]] const KvCacheSpec& spec() const { return spec_; }
  [[nodiscard]] int64_t num_blocks() const { return num_blocks_; }
  [[nodiscard]] int64_t bytes() const;
  [[nodiscard]] std::span<const KvView> layers() const { return views_; }

 private:
  KvCacheSpec spec_;
  int64_t num_blocks_;
  std::vector<Buffer> buffers_;  // one per layer: keys, values, key scales, value scales
  std::vector<KvView> views_;
};

}  // namespace octet
