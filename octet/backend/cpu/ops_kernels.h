// SPDX-License-Identifier: Apache-2.0
/// The kernels of a step beside the multiply: element by element, and attention. Plain data only, see
/// kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "octet/core/dtype.h"

namespace octet {

/// One run of rms_norm; y may be x.
struct NormRun {
  const float* x = nullptr;
  int64_t count = 0;
  const std::byte* weight = nullptr;
  DType weight_dtype = DType::kF32;
  float eps = 0;
  float* y = nullptr;
};

/// One row of layer_norm; y may be x. `weight` and `bias` may be null.
struct LayerNormRun {
  const float* x = nullptr;
  int64_t count = 0;
  const std::byte* weight = nullptr;
  DType weight_dtype = DType::kF32;
  const std::byte* bias = nullptr;
  DType bias_dtype = DType::kF32;
  float eps = 0;
  float* y = nullptr;
};

/// Pairs (first[i * step], second[i * step]) turned by cos[i], sin[i], in place.
struct RotateRun {
  float* first = nullptr;
  float* second = nullptr;
  int64_t step = 1;
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t count = 0;
};

/// Values that share one scale, found here: max(max(amax, amax_floor) / max, scale_floor), unless it is
/// given.
struct ActivationRun {
  const float* x = nullptr;
  int64_t count = 0;
  bool round_to_bfloat16 = false;
  DType to = DType::kF8E4M3;
  float amax_floor = 0;
  float scale_floor = 0;
  const float* given_scale = nullptr;
  std::byte* codes = nullptr;
};

/// A row whose values become FP8 (E4M3) with a scale of its own, max(amax / 448, scale_floor), and go as the
/// values of their codes, not as codes, straight into the cells of a multiply (see multiply_kernels.h).
struct CellsRun {
  const std::byte* x = nullptr;
  DType from = DType::kF32;  ///< F32, F16 or BF16
  int64_t count = 0;
  bool round_to_bfloat16 = false;  ///< first; F32 only
  float scale_floor = 0;
  float multiplier = 1;        ///< of each value in its cell
  bool pairs = false;          ///< cells of two bfloat16 instead of one float32
  std::byte* cells = nullptr;  ///< for `count` values
};

/// y[i] = sum over j of weights[j] * x[rows[j] * stride + i], j ascending.
struct CombineRun {
  const float* x = nullptr;
  int64_t stride = 0;
  const int32_t* rows = nullptr;
  const float* weights = nullptr;
  int64_t terms = 0;
  int64_t count = 0;
  float* y = nullptr;
};

/// y[c] += sum over the 64 rows r of a panel of x[r] * w[r, c], for columns [begin, end); scales are in x.
struct TransposedRun {
  const std::byte* panel = nullptr;
  const float* x = nullptr;  ///< [64], zero for rows that do not count
  int64_t begin = 0;
  int64_t end = 0;
  float* y = nullptr;  ///< of column 0
};

struct TransposedKernels {
  /// By WeightFormat. Returns whether it saw a code without a finite value: then y is wrong.
  bool (*panel[5])(const TransposedRun& run);
};

struct ElementwiseKernels {
  void (*rms_norm)(const NormRun& run);
  void (*layer_norm)(const LayerNormRun& run);
  void (*add)(const float* x, int64_t count, float* y);
  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* y);
  void (*relu)(float* x, int64_t count);
  void (*rotate)(const RotateRun& run);
  void (*combine)(const CombineRun& run);
  /// Returns the scale.
  float (*quantize)(const ActivationRun& run);
  /// Returns the scale, or NaN for a row that holds NaN or infinity.
  float (*quantize_cells)(const CellsRun& run);
};

/// Keys are walked in chunks, and chunks gathered in partitions, both counted from the sequence's start. A
/// partition is summed on its own and the partitions are then merged in order, so whether they were computed
/// by one thread or by several makes no difference.
inline constexpr int64_t kChunkKeys = 64;
inline constexpr int64_t kPartitionKeys = 512;
/// Query vectors (rows times heads that share a key head) that walk the keys together.
inline constexpr int kTileQueries = 48;
/// Kernels may keep queries in so many parts, of half the size each.
inline constexpr int kQueryParts = 3;
/// Rows of scratch memory are whole numbers of this many floats, zero beyond the head's size.
inline constexpr int64_t kHeadPadding = 16;

/// Products of a chunk's keys with 4 queries, added up in each of up to 16 lanes, but not yet over them.
inline constexpr int64_t kSumFloats = 4 * kChunkKeys * 16;

/// Floats for what kernels with tile products store of scores, weights and sums of values.
inline constexpr int64_t kTileScratch = 12288;

/// From one row of widened keys or values to the next: no power of two, so that a column of them does not lie
/// in a few sets of the first cache.
constexpr int64_t widened_stride(int64_t padded_head) {
  return padded_head + 16;
}

struct AttentionTile {
  const std::byte* keys = nullptr;  ///< [blocks, Hk, block_size, D]
  const std::byte* values = nullptr;
  const float* key_scales = nullptr;  ///< FP8 only
  const float* value_scales = nullptr;
  DType dtype = DType::kBF16;
  int64_t block_size = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
  const int32_t* blocks = nullptr;  ///< of the sequence
  int64_t head = 0;                 ///< of the keys
  float scale = 1;
  int count = 0;  ///< query vectors, at most kTileQueries
  const float* q[kTileQueries];
  float* y[kTileQueries];
  int64_t begin[kTileQueries];  ///< the keys that a query sees
  int64_t end[kTileQueries];
};

/// The softmax and its sum of values over some keys, not yet divided.
struct AttentionState {
  float* largest = nullptr;  ///< [kTileQueries]
  float* sum = nullptr;      ///< [kTileQueries]
  float* out = nullptr;      ///< [kTileQueries, padded head]
};

/// Working memory of one thread, heads padded to twice kHeadPadding. See attention_scratch.h.
struct AttentionScratch {
  float* q = nullptr;             ///< [kTileQueries, padded head * kQueryParts / 2]
  float* keys = nullptr;          ///< [kChunkKeys, widened_stride]
  float* values = nullptr;        ///< [kChunkKeys, widened_stride]
  float* scores = nullptr;        ///< [kTileQueries, kChunkKeys]
  float* key_scales = nullptr;    ///< [kChunkKeys] FP8 only
  float* value_scales = nullptr;  ///< [kChunkKeys] FP8 only
  float* sums = nullptr;          ///< [kSumFloats]
  float* tiles = nullptr;         ///< [kTileScratch]
};

struct AttentionKernels {
  /// Makes `scratch` ready for all partitions of `tile`.
  void (*prepare)(const AttentionTile& tile, const AttentionScratch& scratch);
  /// Sets `state` to what the keys of one partition give.
  void (*partition)(const AttentionTile& tile, int64_t index, const AttentionScratch& scratch,
                    const AttentionState& state);
  /// into = into merged with part.
  void (*merge)(const AttentionTile& tile, const AttentionState& part, const AttentionState& into);
  void (*finish)(const AttentionTile& tile, const AttentionState& state);
};

}  // namespace octet
