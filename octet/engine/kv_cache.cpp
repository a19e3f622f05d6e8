// SPDX-License-Identifier: Apache-2.0
#include "octet/engine/kv_cache.h"

#include <cstdint>
#include <optional>
#include <string>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kScaleBytes = sizeof(float);

int64_t token_scale_bytes(const KvCacheSpec& spec) {
  return is_fp8(spec.dtype) ? spec.heads * kScaleBytes : 0;
}
int64_t token_value_bytes(const KvCacheSpec& spec) {
  return spec.heads * spec.head_dim * dtype_size(spec.dtype);
}

/// Bytes of keys, values and scales in one layer, once those of all layers are known to fit an integer.
int64_t layer_bytes(const KvCacheSpec& spec, int64_t num_blocks) {
  const auto tokens = checked_mul(num_blocks, spec.block_size);
  const auto bytes = tokens ? checked_mul(*tokens, spec.bytes_per_token()) : std::nullopt;
  if (!bytes)
    throw ArgumentError("the bytes of a cache of " + std::to_string(num_blocks) + " blocks overflow");
  return *bytes / spec.layers;
}

}  // namespace

int64_t KvCacheSpec::bytes_per_token() const {
  return (latent ? 1 : 2) * layers * (token_value_bytes(*this) + token_scale_bytes(*this));
}

KvCache::KvCache(Backend& backend, const KvCacheSpec& spec, int64_t num_blocks)
    : spec_(spec), num_blocks_(num_blocks) {
  check(spec.layers >= 1 && num_blocks >= 1 && num_blocks <= INT32_MAX,
        "a cache has at least one layer, and as many blocks as an int32 counts");
  const int64_t bytes = layer_bytes(spec, num_blocks);
  const int64_t tokens = num_blocks * spec.block_size;
  const int64_t values = tokens * token_value_bytes(spec);
  const int64_t scales = tokens * token_scale_bytes(spec);
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    buffers_.emplace_back(backend.allocator(), backend.ledger(), "kv_cache", bytes);
    std::byte* data = buffers_.back().data();
    KvView view{.keys = data,
                .values = spec.latent ? data : data + values,
                .dtype = spec.dtype,
                .block_size = spec.block_size,
                .heads = spec.heads,
                .head_dim = spec.head_dim};
    if (scales > 0) {
      std::byte* first = data + (spec.latent ? 1 : 2) * values;
      view.key_scales = reinterpret_cast<float*>(first);
      view.value_scales = reinterpret_cast<float*>(spec.latent ? first : first + scales);
    }
    views_.push_back(view);
  }
}

int64_t KvCache::bytes() const {
  return num_blocks_ * spec_.block_size * spec_.bytes_per_token();
}

}  // namespace octet
