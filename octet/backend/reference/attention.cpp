// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "octet/backend/reference/elements.h"
#include "octet/backend/reference/reference_backend.h"

namespace octet {
namespace {

/// One of the two halves of a cache: keys with their scales, or values with theirs.
struct CacheSide {
  std::byte* data;
  float* scales;
};

/// Where head `head` of slot `slot` begins, counted in vectors of D elements; also the index of its scale.
int64_t vector_index(const KvView& cache, int64_t slot, int64_t head) {
  const int64_t block = slot / cache.block_size;
  return (block * cache.heads + head) * cache.block_size + slot % cache.block_size;
}

std::byte* vector_data(const KvView& cache, const CacheSide& side, int64_t vector) {
  return side.data + vector * cache.head_dim * dtype_size(cache.dtype);
}

void store_vector(std::span<const float> x, const KvView& cache, const CacheSide& side, int64_t vector) {
  std::byte* into = vector_data(cache, side, vector);
  const int64_t size = dtype_size(cache.dtype);
  const bool scaled = is_fp8(cache.dtype);
  const float scale = scaled ? reference::dynamic_scale(reference::abs_max(x), cache.dtype) : 1.0F;
  if (scaled) side.scales[vector] = scale;
  for (const float value : x) {
    if (scaled) {
      *into = static_cast<std::byte>(reference::encode(value / scale, cache.dtype, true));
    } else {
      reference::save(value, into, cache.dtype);
    }
    into += size;
  }
}

/// Keys (or values) as exact numbers: out [vectors, D].
void widen(const KvView& cache, const CacheSide& side, std::span<const int64_t> vectors,
           std::vector<double>& out) {
  out.clear();
  for (const int64_t vector : vectors) {
    const std::byte* from = vector_data(cache, side, vector);
    const double scale = is_fp8(cache.dtype) ? static_cast<double>(side.scales[vector]) : 1.0;
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      out.push_back(scale *
                    static_cast<double>(reference::load(from + d * dtype_size(cache.dtype), cache.dtype)));
    }
  }
}

/// Keys [begin, end).
struct KeyRange {
  int64_t begin;
  int64_t end;
};

/// scale * q . k for every key of the range, turned into weights that sum to one. keys [keys, D]
std::vector<double> attention_weights(std::span<const float> q, std::span<const double> keys, KeyRange range,
                                      double scale) {
  std::vector<double> weights;
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t position = range.begin; position < range.end; ++position) {
    const auto key = keys.subspan(static_cast<size_t>(position) * q.size(), q.size());
    double dot = 0;
    for (size_t d = 0; d < q.size(); ++d) dot += static_cast<double>(q[d]) * key[d];
    weights.push_back(scale * dot);
    largest = std::max(largest, weights.back());
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// The sum of the values of the range, each times its weight: y [D]. values [keys, D]
void weighted_sum(std::span<const double> weights, std::span<const double> values, KeyRange range,
                  std::span<float> y) {
  for (size_t d = 0; d < y.size(); ++d) {
    double sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      sum += weights[i] * values[(static_cast<size_t>(range.begin) + i) * y.size() + d];
    }
    y[d] = static_cast<float>(sum);
  }
}

/// Where the keys and values at these positions of a sequence lie for one head.
std::vector<int64_t> vectors_of(const KvView& cache, std::span<const int32_t> blocks, KeyRange range,
                                int64_t head) {
  std::vector<int64_t> vectors;
  for (int64_t position = range.begin; position < range.end; ++position) {
    const int64_t block = blocks[static_cast<size_t>(position / cache.block_size)];
    vectors.push_back(vector_index(cache, block * cache.block_size + position % cache.block_size, head));
  }
  return vectors;
}

void check_attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                     const AttentionSpec& spec, ConstTensorView y) {
  check(q.dtype() == DType::kF32 && y.dtype() == DType::kF32, "attention takes float32 activations");
  check(cache.heads > 0 && spec.query_heads > 0 && spec.query_heads % cache.heads == 0,
        "the query heads must be a multiple of the key heads");
  check(q.shape() == y.shape() && (q.rows() == 0 || q.cols() == spec.query_heads * cache.head_dim),
        "attention: q and y have Hq * D columns");
  const size_t sequences = batch.context_lengths.size();
  check(batch.sequence_starts.size() == sequences + 1 && batch.sequence_starts.back() == q.rows(),
        "attention: the sequences cover all rows");
  check(static_cast<int64_t>(batch.block_tables.size()) >= static_cast<int64_t>(sequences) * batch.max_blocks,
        "attention: one row of blocks for each sequence");
}

}  // namespace

void ReferenceBackend::kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                                const KvView& cache) {
  check(keys.dtype() == DType::kF32 && values.dtype() == DType::kF32,
        "kv_store takes float32 keys and values");
  check(keys.shape() == values.shape() && keys.rows() == static_cast<int64_t>(slots.size()),
        "kv_store: one key and one value for each slot");
  check(keys.rows() == 0 || keys.cols() == cache.heads * cache.head_dim,
        "kv_store: keys have Hk * D columns");
  const auto dim = static_cast<size_t>(cache.head_dim);
  for (int64_t t = 0; t < keys.rows(); ++t) {
    const int64_t slot = slots[static_cast<size_t>(t)];
    check(slot >= 0, "kv_store: a slot is negative");
    for (int64_t head = 0; head < cache.heads; ++head) {
      const int64_t vector = vector_index(cache, slot, head);
      const int64_t begin = head * cache.head_dim;
      store_vector({keys.row<float>(t) + begin, dim}, cache, {cache.keys, cache.key_scales}, vector);
      if (cache.values == cache.keys) continue;
      store_vector({values.row<float>(t) + begin, dim}, cache, {cache.values, cache.value_scales}, vector);
    }
  }
}

void ReferenceBackend::attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                                 const AttentionSpec& spec, TensorView y) {
  check_attention(q, cache, batch, spec, y);
  const int64_t queries_per_key = spec.query_heads / cache.heads;
  const auto dim = static_cast<size_t>(cache.head_dim);
  std::vector<double> keys;    // [keys that any row sees, D]
  std::vector<double> values;  // the same
  for (size_t s = 0; s < batch.context_lengths.size(); ++s) {
    const int64_t first_row = batch.sequence_starts[s];
    const int64_t end_row = batch.sequence_starts[s + 1];
    const int64_t context = batch.context_lengths[s];
    check(context >= end_row - first_row && context <= batch.max_blocks * cache.block_size,
          "attention: a sequence has fewer keys than rows, or more than its blocks hold");
    if (end_row == first_row) continue;
    const auto blocks = batch.block_tables.subspan(s * static_cast<size_t>(batch.max_blocks));
    const int64_t window = spec.sliding_window > 0 ? spec.sliding_window : context;
    const int64_t first_key = std::max<int64_t>(0, context - (end_row - first_row) + 1 - window);
    for (int64_t head = 0; head < spec.query_heads; ++head) {
      if (head % queries_per_key == 0) {
        const std::vector<int64_t> vectors =
            vectors_of(cache, blocks, {first_key, context}, head / queries_per_key);
        widen(cache, {cache.keys, cache.key_scales}, vectors, keys);
        widen(cache, {cache.values, cache.value_scales}, vectors, values);
      }
      for (int64_t row = first_row; row < end_row; ++row) {
        const int64_t end =
            context - (end_row - row) + 1 - first_key;  // counted from the first key that any row sees
        const KeyRange range{std::max<int64_t>(0, end - window), end};
        const int64_t at = head * cache.head_dim;
        const std::span<const float> query(q.row<float>(row) + at, dim);
        const auto weights = attention_weights(query, keys, range, static_cast<double>(spec.scale));
        weighted_sum(weights, values, range, {y.row<float>(row) + at, dim});
      }
    }
  }
}

}  // namespace octet
