// SPDX-License-Identifier: Apache-2.0
/// The kernels of loading: absolute maxima, quantizing, rounding, widening, and the way into and out of
/// kLanes64. They work on runs: consecutive elements of one row that share a scale. Plain data only, see
/// kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "octet/core/dtype.h"

namespace octet {

/// QuantizeRule::Quotient and the absence of scales.
enum class QuotientKind : uint8_t { kRaw, kDivide, kReciprocal, kDivideRounded };

/// From what to what, and how.
struct QuantizeKind {
  DType from;  ///< F32, F16 or BF16
  DType to;    ///< E4M3 or E5M2
  QuotientKind quotient;
  bool nan_saturates;
};

/// The codes of one binade of bfloat16 under one scale; those of the others follow by adding whole binades. A
/// code step is at least 8 mantissas wide, so 16 buckets of 8 mantissas hold at most one step each.
struct MantissaTable {
  alignas(16) uint8_t first[16];  ///< the code of a bucket's first mantissa
  alignas(16) uint8_t last[16];   ///< the last mantissa of the bucket that has it
  float scale = 0;                ///< for which it was made, when `made`
  uint16_t base = 0;              ///< the smallest magnitude (bits) it serves: the first of its binade
  uint16_t span = 0;              ///< the largest it serves, less `base`
  bool made = false;
  bool usable = false;  ///< false: every value goes the long way
};

/// What QuantizeStats holds, for some runs.
struct QuantizeSums {
  double signal = 0;
  double noise = 0;
  int64_t zeroed = 0;
  int64_t saturated = 0;
};

/// Elements that share a scale: a run of one row, or the same columns of several.
struct QuantizeRun {
  const std::byte* x = nullptr;
  int64_t count = 0;  ///< of each row
  float scale = 1;
  std::byte* codes = nullptr;  ///< consecutive in each row
  int64_t rows = 1;
  int64_t ahead = 0;         ///< bytes from x to what is read next of all: into the cache meanwhile
  int64_t x_stride = 0;      ///< bytes
  int64_t codes_stride = 0;  ///< bytes
};

struct AbsMax {
  float value = 0;         ///< NaN passed over
  int64_t not_finite = 0;  ///< NaN and infinite elements
};

/// Words of 32 bits in rows on one side, lanes of 64 rows on the other: word w of row r is lane r of group w.
struct LaneBlock {
  std::byte* rows = nullptr;
  int64_t row_stride = 0;      ///< bytes
  int64_t row_count = 0;       ///< at most 64
  int64_t words = 0;           ///< of each row
  std::byte* lanes = nullptr;  ///< lane of the first row, first group; the next group follows 256 bytes later
};

struct QuantizeKernels {
  AbsMax (*abs_max)(DType dtype, const std::byte* x, int64_t count);
  /// `table` belongs to one QuantizeKind; a run whose scale it was made for goes faster. `sums` may be
  /// nullptr, which is faster, too.
  void (*quantize)(const QuantizeKind& kind, const QuantizeRun& run, MantissaTable& table,
                   QuantizeSums* sums);
  /// Real dtypes to real dtypes, rounded once.
  void (*convert)(DType from, const std::byte* x, int64_t count, DType to, std::byte* y);
  /// y = scale * x, x of any float type.
  void (*widen)(DType from, const std::byte* x, int64_t count, float scale, float* y);
  /// May write past the cache: other threads see it after end_of_lanes on this one.
  void (*to_lanes)(const LaneBlock& block);
  void (*end_of_lanes)();
  void (*from_lanes)(const LaneBlock& block);
};

}  // namespace octet
