// SPDX-License-Identifier: Apache-2.0
/// A paged cache whose unused slots hold NaN, and an attention step over several sequences in it.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "octet/backend/backend.h"
#include "tests/conformance/compare.h"

namespace octet::conformance {

/// What a cache may hold.
inline constexpr std::array kCacheTypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3,
                                           DType::kF8E5M2};

struct CacheShape {
  DType dtype = DType::kF32;
  int64_t blocks = 1;
  int64_t heads = 1;
  int64_t block_size = 16;
  int64_t head_dim = 8;
};

class Cache {
 public:
  Cache(Memory& memory, const CacheShape& shape);

  [[nodiscard]] KvView view();
  void expect_equal_to(const Cache& other) const;
  /// The same keys, and |values|: what an error bound is made of.
  [[nodiscard]] Cache with_absolute_values(Memory& memory) const;

 private:
  CacheShape shape_;
  Strided keys_;    // [blocks * Hk * block_size, D]
  Strided values_;  // the same
  Strided key_scales_;
  Strided value_scales_;
};

/// A sequence in a step: its last `rows` tokens are queries, all `context` tokens are keys.
struct StepSequence {
  int64_t rows = 1;
  int64_t context = 1;
};

struct AttentionCase {
  DType cache_dtype = DType::kF32;
  int64_t key_heads = 1;
  int64_t group = 1;  ///< query heads to a key head
  int64_t head_dim = 64;
  int64_t block_size = 16;
  int64_t window = 0;
  std::vector<StepSequence> sequences;
  int64_t gap = 0;

  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] int64_t query_cols() const { return key_heads * group * head_dim; }
};

/// The operands of one case: random queries, and a cache in which every sequence has its keys in scattered
/// blocks.
class AttentionStep {
 public:
  /// The contents depend on `seed` and the case's shape alone; `shuffle` decides only in which blocks they
  /// lie.
  AttentionStep(Memory& memory, Backend& reference, const AttentionCase& what, uint64_t seed,
                uint64_t shuffle = 1);

  /// y of all rows.
  [[nodiscard]] Strided run(Backend& backend);
  /// Rows [begin, end) of sequence s alone, as an earlier or a smaller step would have them.
  [[nodiscard]] Strided run_part(Backend& backend, size_t s, int64_t begin, int64_t end);
  /// The first row of sequence s among all.
  [[nodiscard]] int64_t first_row(size_t s) const { return starts_[s]; }
  /// How far a float32 result may be from the reference's.
  [[nodiscard]] Strided bound(Backend& reference);

 private:
  void fill_cache(Backend& reference, Random& random);
  void place_blocks(uint64_t shuffle);
  [[nodiscard]] AttentionSpec spec() const;
  [[nodiscard]] BatchLayout batch() const;

  Memory& memory_;
  AttentionCase what_;
  int64_t max_blocks_ = 0;
  std::vector<int32_t> starts_;
  std::vector<int32_t> contexts_;
  std::vector<int32_t> tables_;
  Cache cache_;
  Strided q_;  // [T, Hq * D]
  double largest_key_norm_ = 0;
};

}  // namespace octet::conformance
