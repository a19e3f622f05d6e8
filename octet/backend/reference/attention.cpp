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

double load_element(const KvView& cache, const CacheSide& side, int64_t vector, int64_t d) {
  const std::byte* from = vector_data(cache, side, vector) + d * dtype_size(cache.dtype);
  const double scale = is_fp8(cache.dtype) ? static_cast<double>(side.scales[vector]) : 1.0;
  return scale * static_cast<double>(reference::load(from, cache.dtype));
}

/// The keys that one query sees: positions [begin, end) of its sequence.
struct KeyRange {
  std::span<const int32_t> blocks;  ///< of the sequence
  int64_t begin;
  int64_t end;

  /// The vector of the key (and of the value) at `position`, for one head.
  [[nodiscard]] int64_t vector(const KvView& cache, int64_t position, int64_t head) const {
    const int64_t block = blocks[static_cast<size_t>(position / cache.block_size)];
    return vector_index(cache, block * cache.block_size + position % cache.block_size, head);
  }
};

struct HeadRule {
  int64_t key_head;
  double scale;  ///< of q . k
};

/// scale * q . k for every key of the range, turned into weights that sum to one.
std::vector<double> attention_weights(std::span<const float> q, const KvView& cache, const KeyRange& keys,
                                      const HeadRule& rule) {
  std::vector<double> weights;
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t position = keys.begin; position < keys.end; ++position) {
    const int64_t vector = keys.vector(cache, position, rule.key_head);
    double dot = 0;
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      const double key = load_element(cache, {cache.keys, cache.key_scales}, vector, d);
      dot += static_cast<double>(q[static_cast<size_t>(d)]) * key;
    }
    weights.push_back(rule.scale * dot);
    largest = std::max(largest, weights.back());
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// One head of one row: y [D].
void attend(std::span<const float> q, const KvView& cache, const KeyRange& keys, const HeadRule& rule, float* y) {
  const std::vector<double> weights = attention_weights(q, cache, keys, rule);
  for (int64_t d = 0; d < cache.head_dim; ++d) {
    double sum = 0;
    for (int64_t position = keys.begin; position < keys.end; ++position) {
      const int64_t vector = keys.vector(cache, position, rule.key_head);
      const double value = load_element(cache, {cache.values, cache.value_scales}, vector, d);
      sum += weights[static_cast<size_t>(position - keys.begin)] * value;
    }
    y[d] = static_cast<float>(sum);
  }
}

void check_attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch, const AttentionSpec& spec,
                     ConstTensorView y) {
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
  check(keys.dtype() == DType::kF32 && values.dtype() == DType::kF32, "kv_store takes float32 keys and values");
  check(keys.shape() == values.shape() && keys.rows() == static_cast<int64_t>(slots.size()),
        "kv_store: one key and one value for each slot");
  check(keys.rows() == 0 || keys.cols() == cache.heads * cache.head_dim, "kv_store: keys have Hk * D columns");
  const auto dim = static_cast<size_t>(cache.head_dim);
  for (int64_t t = 0; t < keys.rows(); ++t) {
    const int64_t slot = slots[static_cast<size_t>(t)];
    check(slot >= 0, "kv_store: a slot is negative");
    for (int64_t head = 0; head < cache.heads; ++head) {
      const int64_t vector = vector_index(cache, slot, head);
      const int64_t begin = head * cache.head_dim;
      store_vector({keys.row<float>(t) + begin, dim}, cache, {cache.keys, cache.key_scales}, vector);
      store_vector({values.row<float>(t) + begin, dim}, cache, {cache.values, cache.value_scales}, vector);
    }
  }
}

void ReferenceBackend::attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                                 const AttentionSpec& spec, TensorView y) {
  check_attention(q, cache, batch, spec, y);
  const int64_t queries_per_key = spec.query_heads / cache.heads;
  const auto dim = static_cast<size_t>(cache.head_dim);
  for (size_t s = 0; s < batch.context_lengths.size(); ++s) {
    const int64_t first_row = batch.sequence_starts[s];
    const int64_t end_row = batch.sequence_starts[s + 1];
    const auto blocks = batch.block_tables.subspan(s * static_cast<size_t>(batch.max_blocks),
                                                   static_cast<size_t>(batch.max_blocks));
    for (int64_t row = first_row; row < end_row; ++row) {
      const int64_t end = batch.context_lengths[s] - (end_row - row) + 1;
      const int64_t begin = spec.sliding_window > 0 ? std::max<int64_t>(0, end - spec.sliding_window) : 0;
      check(end > 0 && end <= batch.max_blocks * cache.block_size, "attention: a sequence has fewer keys than rows");
      for (int64_t head = 0; head < spec.query_heads; ++head) {
        const int64_t at = head * cache.head_dim;
        attend({q.row<float>(row) + at, dim}, cache, {blocks, begin, end},
               {head / queries_per_key, static_cast<double>(spec.scale)}, y.row<float>(row) + at);
      }
    }
  }
}

}  // namespace octet
