// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "octet/base/checked_math.h"

namespace octet::conformance {
namespace {

constexpr int64_t kSpareBlocks = 3;

int64_t longest(const AttentionCase& what) {
  int64_t blocks = 0;
  for (const StepSequence& s : what.sequences)
    blocks = std::max(blocks, ceil_div(s.context, what.block_size));
  return blocks + 1;
}

CacheShape cache_shape(const AttentionCase& what) {
  const int64_t blocks = longest(what) * static_cast<int64_t>(what.sequences.size()) + kSpareBlocks;
  return {.dtype = what.cache_dtype,
          .blocks = blocks,
          .heads = what.key_heads,
          .block_size = what.block_size,
          .head_dim = what.head_dim};
}

int64_t all_rows(const AttentionCase& what) {
  int64_t rows = 0;
  for (const StepSequence& s : what.sequences) rows += s.rows;
  return rows;
}

double largest_norm(const Strided& x, int64_t dim) {
  double largest = 0;
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t begin = 0; begin < x.cols(); begin += dim) {
      double sum = 0;
      for (int64_t d = 0; d < dim; ++d) sum += std::pow(static_cast<double>(x.get(r, begin + d)), 2);
      largest = std::max(largest, std::sqrt(sum));
    }
  }
  return largest;
}

}  // namespace

Cache::Cache(Memory& memory, const CacheShape& shape)
    : shape_(shape),
      keys_(memory, shape.dtype, shape.blocks * shape.heads * shape.block_size, shape.head_dim),
      values_(memory, shape.dtype, keys_.rows(), shape.head_dim),
      key_scales_(memory, keys_.rows(), 1),
      value_scales_(memory, keys_.rows(), 1) {
  for (Strided* each : {&keys_, &values_, &key_scales_, &value_scales_})
    each->transform([](float) { return kNaN; });
}

KvView Cache::view() {
  const bool scaled = is_fp8(shape_.dtype);
  return {.keys = keys_.view().data(),
          .values = values_.view().data(),
          .key_scales = scaled ? key_scales_.view().row<float>(0) : nullptr,
          .value_scales = scaled ? value_scales_.view().row<float>(0) : nullptr,
          .dtype = shape_.dtype,
          .block_size = shape_.block_size,
          .heads = shape_.heads,
          .head_dim = shape_.head_dim};
}

void Cache::expect_equal_to(const Cache& other) const {
  expect_equal(keys_, other.keys_);
  expect_equal(values_, other.values_);
  expect_equal(key_scales_, other.key_scales_);
  expect_equal(value_scales_, other.value_scales_);
}

Cache Cache::with_absolute_values(Memory& memory) const {
  Cache result(memory, shape_);
  result.keys_ = keys_.copy(memory);
  result.values_ = values_.copy(memory);
  result.key_scales_ = key_scales_.copy(memory);
  result.value_scales_ = value_scales_.copy(memory);
  result.values_.transform([](float value) { return std::fabs(value); });
  return result;
}

std::string AttentionCase::to_string() const {
  std::string text = std::string(octet::to_string(cache_dtype)) + " cache, " + std::to_string(key_heads) +
                     " x " + std::to_string(group) + " heads of " + std::to_string(head_dim) +
                     ", blocks of " + std::to_string(block_size) + ", window " + std::to_string(window) +
                     ", sequences";
  for (const StepSequence& s : sequences)
    text += " " + std::to_string(s.rows) + "/" + std::to_string(s.context);
  return text;
}

AttentionStep::AttentionStep(Memory& memory, Backend& reference, const AttentionCase& what, uint64_t seed,
                             uint64_t shuffle)
    : memory_(memory),
      what_(what),
      max_blocks_(longest(what)),
      starts_{0},
      cache_(memory, cache_shape(what)),
      q_(memory, all_rows(what), what.query_cols(), what.gap) {
  for (const StepSequence& s : what.sequences) {
    starts_.push_back(starts_.back() + static_cast<int32_t>(s.rows));
    contexts_.push_back(static_cast<int32_t>(s.context));
  }
  Random random(seed);
  q_.randomize(random);
  place_blocks(shuffle);
  fill_cache(reference, random);
}

void AttentionStep::place_blocks(uint64_t shuffle) {
  const int64_t blocks = cache_shape(what_).blocks;
  std::vector<int32_t> order(static_cast<size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  Random random(shuffle);
  for (int64_t i = blocks - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.below(i + 1))]);
  }
  tables_.assign(order.begin(), order.begin() + max_blocks_ * static_cast<int64_t>(what_.sequences.size()));
}

void AttentionStep::fill_cache(Backend& reference, Random& random) {
  for (size_t s = 0; s < what_.sequences.size(); ++s) {
    const int64_t context = what_.sequences[s].context;
    Strided keys(memory_, context, what_.key_heads * what_.head_dim);
    Strided values(memory_, context, what_.key_heads * what_.head_dim);
    keys.randomize(random);
    values.randomize(random);
    std::vector<int32_t> slots;
    for (int64_t position = 0; position < context; ++position) {
      const auto at = s * static_cast<size_t>(max_blocks_) + static_cast<size_t>(position / what_.block_size);
      slots.push_back(static_cast<int32_t>(tables_[at] * what_.block_size + position % what_.block_size));
    }
    reference.kv_store(keys.view(), values.view(), slots, cache_.view());
    largest_key_norm_ = std::max(largest_key_norm_, largest_norm(keys, what_.head_dim));
  }
}

AttentionSpec AttentionStep::spec() const {
  return {
      .query_heads = what_.key_heads * what_.group,
      .scale = 2.0F / std::sqrt(static_cast<float>(what_.head_dim)),  // twice the usual: some keys stand out
      .sliding_window = what_.window};
}

BatchLayout AttentionStep::batch() const {
  return {.sequence_starts = starts_,
          .context_lengths = contexts_,
          .block_tables = tables_,
          .max_blocks = max_blocks_};
}

Strided AttentionStep::run(Backend& backend) {
  Strided y(memory_, q_.rows(), q_.cols(), what_.gap);
  backend.attention(q_.view(), cache_.view(), batch(), spec(), y.view());
  return y;
}

Strided AttentionStep::run_part(Backend& backend, size_t s, int64_t begin, int64_t end) {
  const StepSequence& sequence = what_.sequences[s];
  const std::array<int32_t, 2> starts = {0, static_cast<int32_t>(end - begin)};
  const std::array<int32_t, 1> contexts = {static_cast<int32_t>(sequence.context - (sequence.rows - end))};
  const auto table =
      std::span(tables_).subspan(s * static_cast<size_t>(max_blocks_), static_cast<size_t>(max_blocks_));
  Strided y(memory_, end - begin, q_.cols(), what_.gap);
  backend.attention(q_.view().slice_rows(starts_[s] + begin, starts_[s] + end), cache_.view(),
                    {.sequence_starts = starts,
                     .context_lengths = contexts,
                     .block_tables = table,
                     .max_blocks = max_blocks_},
                    spec(), y.view());
  return y;
}

Strided AttentionStep::bound(Backend& reference) {
  // A score is wrong by E at the most: D products and sums, the scale, and the subtraction of the largest
  // score, all relative to scale * |q| |k| (Cauchy and Schwarz; 9/8 for keys that grew when they were rounded
  // to FP8). A weight is then wrong by the factor exp(2 E) with its sum, plus the exponential's own 8
  // roundings; the sums over the keys add one rounding for each key above and below, and two for each block
  // of keys that is rescaled (at most one a key).
  const double score =
      static_cast<double>(spec().scale) * largest_norm(q_, what_.head_dim) * largest_key_norm_ * 1.125;
  const double score_error = 2 * gamma(static_cast<double>(what_.head_dim) + 8) * score;
  const double keys = static_cast<double>(*std::max_element(contexts_.begin(), contexts_.end()));
  const double relative = std::expm1(2 * score_error) + gamma(4 * keys + 32);
  Cache magnitude = cache_.with_absolute_values(memory_);
  Strided bound(memory_, q_.rows(), q_.cols());
  reference.attention(q_.view(), magnitude.view(), batch(), spec(), bound.view());
  bound.transform([&](float value) { return static_cast<float>(relative * static_cast<double>(value)); });
  return bound;
}

}  // namespace octet::conformance
