// SPDX-License-Identifier: Apache-2.0
/// The operations a device offers, and nothing else: `reference` says what each means in plain loops, `cpu`
/// is held to it.
///
/// Shape letters: T tokens, S sequences, H hidden, I intermediate, V vocabulary, D head dim, Hq query heads,
/// Hk key/value heads, E experts, R rows, C columns; M, N, K only inside a multiply (N outputs, K inputs).
///
/// Activations are float32 on every host backend. Views handed in must not overlap unless an operation says
/// so. The operations of a step use the backend's own threads and are called from one thread at a time; those
/// under "loading" run on the calling thread and may be called from several at once on disjoint rows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "octet/base/cpu_features.h"
#include "octet/base/thread_pool.h"
#include "octet/core/buffer.h"
#include "octet/core/quant_matrix.h"
#include "octet/core/tensor.h"

namespace octet {

/// To what the dense operand of a multiply is rounded, once, before it: the precision rule of `--dtype`.
enum class Precision {
  kFloat32,   ///< not at all (float32 and float16 models)
  kBFloat16,  ///< to bfloat16, to nearest even
};

/// The left operand of a multiply: dense, or quantized by `quantize_activations`.
struct Activations {
  ConstTensorView dense;  ///< [T, K] float32; empty when `quantized` is set
  Precision precision = Precision::kFloat32;
  std::optional<QuantMatrixView> quantized;  ///< [T, K] row-major FP8, one scale per row or per 1 x group
};

/// Rows [begin, end) of activations.
[[nodiscard]] inline Activations activation_rows(const Activations& x, int64_t begin, int64_t end) {
  Activations part = x;
  if (!x.quantized) {
    part.dense = x.dense.slice_rows(begin, end);
    return part;
  }
  QuantMatrixView& q = *part.quantized;
  q.data += begin * q.cols;
  q.scales += begin * (q.scale_kind == ScaleKind::kGrid ? q.parts.front().grid_cols : 1);
  q.rows = end - begin;
  return part;
}

/// Some rows of a step and the matrix they are multiplied with: one expert and its tokens.
struct MatrixGroup {
  QuantMatrixView w;  ///< [N, K]
  int64_t begin = 0;  ///< rows [begin, end) of the activations and of the result
  int64_t end = 0;
};

/// A matrix [N, K] with a block of rows for each head, of which `count` rows from `first` on are meant: head
/// h has rows [h * stride + first, h * stride + first + count).
struct HeadMatrix {
  QuantMatrixView w;
  int64_t heads = 0;
  int64_t stride = 0;
  int64_t first = 0;
  int64_t count = 0;
  int64_t x_stride = 0;  ///< columns of the left operand from one head to the next
  int64_t y_stride = 0;  ///< of the result
};

/// How a value becomes a code: q = encode(clamp(quotient)), quotient from x and its scale.
struct QuantizeRule {
  enum class Quotient {
    kDivide,         ///< x / scale in float32
    kReciprocal,     ///< x * (1 / scale) in float32
    kDivideRounded,  ///< x / scale in float32, rounded to the dtype of x
  };
  Quotient quotient = Quotient::kDivide;
  /// What a NaN quotient becomes: the largest finite value (as CUDA's fmin/fmax make it) or the NaN code.
  bool nan_saturates = true;
};

/// What quantizing did to the values, over all elements that passed. Sums are in float64, though a backend
/// may add up to 128 values at a time in float32 before: signal and noise are within 1e-6 of the exact sums,
/// relatively; the counts exact.
struct QuantizeStats {
  double signal = 0;  ///< sum of x^2, of the finite x
  double noise = 0;   ///< sum of (x - scale * q)^2, of the same
  int64_t elements = 0;
  int64_t zeroed = 0;     ///< x != 0 that became 0
  int64_t saturated = 0;  ///< |quotient| beyond the largest finite value

  void add(const QuantizeStats& other) {
    signal += other.signal;
    noise += other.noise;
    elements += other.elements;
    zeroed += other.zeroed;
    saturated += other.saturated;
  }
};

/// Where a tile lies in its matrix.
struct MatrixPlace {
  int64_t row = 0;
  int64_t col = 0;
};

/// One layer's part of the paged cache. Keys and values: [blocks, Hk, block_size, D]; a slot is block *
/// block_size + place. With an FP8 dtype each token and head has its own float32 scale: [blocks, Hk,
/// block_size].
struct KvView {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;    ///< may be `keys`, as in a latent cache: then each vector is stored once
  float* key_scales = nullptr;    ///< FP8 only
  float* value_scales = nullptr;  ///< FP8 only
  DType dtype = DType::kBF16;     ///< F32, F16, BF16, F8_E4M3 or F8_E5M2
  int64_t block_size = 0;
  int64_t heads = 0;     ///< Hk
  int64_t head_dim = 0;  ///< D
};

/// Which rows of a step belong to which sequence, and where each sequence's keys are.
struct BatchLayout {
  std::span<const int32_t> sequence_starts;  ///< [S+1] rows of sequence s: [starts[s], starts[s+1])
  std::span<const int32_t> context_lengths;  ///< [S] keys of sequence s, those of this step included
  std::span<const int32_t> block_tables;     ///< [S, max_blocks] block of each block_size keys
  int64_t max_blocks = 0;
};

/// What a layer norm multiplies with and adds: [D] each, F32, F16 or BF16; empty views for neither.
struct NormParameters {
  ConstTensorView weight;
  ConstTensorView bias;
};

struct AttentionSpec {
  int64_t query_heads = 0;     ///< Hq, a multiple of Hk
  float scale = 1.0F;          ///< of q . k
  int64_t sliding_window = 0;  ///< 0: all earlier keys; W: the last W keys, the query's own included
};

enum class RopeStyle {
  kHalfSplit,    ///< pairs (i, i + R/2)
  kInterleaved,  ///< pairs (2i, 2i + 1)
};

class Backend {
 public:
  virtual ~Backend() = default;

  /// "reference", "cpu (avx2, 2 threads)": for people.
  [[nodiscard]] virtual std::string describe() const = 0;
  [[nodiscard]] virtual Allocator& allocator() = 0;
  [[nodiscard]] virtual MemoryLedger& ledger() = 0;
  /// Threads for loops of the caller's own (loading); not to be used inside an operation's callback.
  [[nodiscard]] virtual ThreadPool& threads() = 0;
  /// How matrices that are multiplied with must lie. Tables that are only looked up are row-major everywhere.
  [[nodiscard]] virtual MatrixLayout weight_layout() const = 0;
  /// Whether the device multiplies FP8 by FP8 natively: what `--activation-scheme auto` asks.
  [[nodiscard]] virtual bool native_fp8_multiply() const = 0;

  // ---- loading: on the calling thread ----

  /// The largest |x| of each row in each run of `segment` columns. `first_segment` columns make the first run
  /// (the phase of a shard), then `segment` each. NaN is passed over, infinity is not.
  ///   x     [R, C]  F32, F16 or BF16
  ///   amax  [R, number of runs] float32
  /// Returns the number of elements that are NaN or infinite.
  virtual int64_t abs_max(ConstTensorView x, int64_t first_segment, int64_t segment, TensorView amax) = 0;

  /// Writes the codes of x [r, c] (F32, F16 or BF16) into rows [at.row, at.row + r), columns [at.col, at.col
  /// + c) of `w` (FP8), whose scales for these elements are already there; without scales it is a raw cast
  /// (clamp, round). Adds to `stats`, unless that is nullptr, which may be faster.
  virtual void quantize(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at, const QuantizeRule& rule,
                        QuantizeStats* stats) = 0;

  /// Copies x [r, c] into `w` without scales: equal dtypes bit for bit (FP8 too), real dtypes by one
  /// rounding.
  virtual void store(ConstTensorView x, const QuantMatrixView& w, MatrixPlace at) = 0;

  /// Reads rows [row, row + r) of `w` back: as float32 scale * q into y [r, C] float32, or, where y has the
  /// dtype of `w` and it is not float32, the stored elements themselves.
  virtual void read_rows(const QuantMatrixView& w, int64_t row, TensorView y) = 0;

  // ---- a step: on the backend's threads ----

  /// Rows `ids` of a table as float32, scaled: ids [T], table [V, H] of any layout and dtype, y [T, H].
  virtual void embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) = 0;

  /// FP8 codes of x [T, K] with one scale per row (group = 0) or per run of `group` columns; q row-major,
  /// kRow or kGrid. `precision` rounds x first. Dynamic: scale = max(amax / max, 1 / (448 * 512)), per group
  /// max(amax, 1e-10) / max; codes by division. `static_scale` replaces them; codes then by multiplying with
  /// its float32 reciprocal (vLLM's static kernel). One row alone keeps to the calling thread, and several
  /// threads may each have one.
  virtual void quantize_activations(ConstTensorView x, Precision precision, std::optional<float> static_scale,
                                    const QuantMatrixView& q) = 0;

  /// y = x * w^T + bias.
  ///   x     [T, K]
  ///   w     [N, K]  any dtype, layout and scales
  ///   bias  [N]     F32, F16 or BF16; an empty view for none
  ///   y     [T, N]  float32
  /// Products accumulate in float32, over k in ascending order in one accumulator for each output (with a
  /// grid: one for each block of columns, their scaled sums added in order); scales, then bias, in float32.
  /// The bits of a row of y do not depend on T, on the other rows, or on the number of threads. T may be 0.
  virtual void gemm(const Activations& x, const QuantMatrixView& w, ConstTensorView bias, TensorView y) = 0;

  /// y = x * w^T + bias with x in FP8: to the bit what `quantize_activations` (E4M3, one dynamic scale per
  /// row) and `gemm` give for x in float32, then one rounding to the dtype of y. A row of x that holds NaN or
  /// infinity makes a row of NaN.
  ///   x     [T, K]  F32 (rounded first as `precision` says), F16 or BF16; rows may be strided
  ///   w     [N, K]  E4M3, one scale for each row, or parts with one for each of their blocks of rows
  ///   bias  [N]     F32, F16 or BF16; an empty view for none
  ///   y     [T, N]  F32, F16 or BF16
  virtual void gemm_dynamic(ConstTensorView x, Precision precision, const QuantMatrixView& w,
                            ConstTensorView bias, TensorView y) = 0;

  /// Several multiplies as one: for each group, rows [begin, end) of y = the same rows of x * w^T, to the bit
  /// what `gemm` gives for them. Every matrix is [N, K], of any dtype, layout and scales; matrices that are
  /// in no group are not read.
  ///   x       [T, K]
  ///   groups  ascending and disjoint in rows; rows in no group are left as they are; none may be empty
  ///   y       [T, N] float32
  virtual void grouped_gemm(const Activations& x, std::span<const MatrixGroup> groups, TensorView y) = 0;

  /// A multiply for each head by its own rows of a stored matrix, which is read as it is stored: y[t, h, n] =
  /// sum over k of x[t, h, k] * w_h[n, k], to the bit as `gemm` by those rows; `precision` rounds x first.
  ///   x  [T, heads * x_stride] float32, of each head the first K columns
  ///   y  [T, heads * y_stride] float32, of each head the first `count` columns are written
  virtual void gemm_heads(ConstTensorView x, Precision precision, const HeadMatrix& heads, TensorView y) = 0;

  /// The same with the rows as their own transpose: y[t, h, k] = sum over n of x[t, h, n] * w_h[n, k], scales
  /// included, in float32 in an order that depends on nothing but the matrix.
  ///   x  [T, heads * x_stride] float32, of each head the first `count` columns
  ///   y  [T, heads * y_stride] float32, of each head the first K columns are written
  virtual void gemm_heads_transposed(ConstTensorView x, Precision precision, const HeadMatrix& heads,
                                     TensorView y) = 0;

  /// Weighted sums of rows: y[t] = sum over j of weights[t, j] * x[rows[t * n + j]], in float32, j ascending.
  ///   x [R, H], weights [T, n], y [T, H] float32; rows [T * n], each in [0, R)
  virtual void combine_rows(ConstTensorView x, std::span<const int32_t> rows, ConstTensorView weights,
                            TensorView y) = 0;

  /// y = x / sqrt(mean(x^2) + eps) * weight over each run of D = weight.cols() columns (the whole row, or
  /// each head).
  ///   x, y  [T, n * D] float32, rows may be strided; y may be x
  ///   weight [D] F32, F16 or BF16
  virtual void rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) = 0;

  /// y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias over each row; the variance is the mean of
  /// squares.
  ///   x, y  [T, D] float32, rows may be strided; y may be x
  ///   weight, bias [D] F32, F16 or BF16; an empty view for weights of 1, for a bias of 0
  virtual void layer_norm(ConstTensorView x, const NormParameters& parameters, float eps, TensorView y) = 0;

  /// y += x, [T, H] float32.
  virtual void add(ConstTensorView x, TensorView y) = 0;

  /// y = silu(gate) * up: gate_up [T, 2I] (gate first), y [T, I], float32.
  virtual void silu_mul(ConstTensorView gate_up, TensorView y) = 0;

  /// x = max(x, 0), [T, I] float32, in place; NaN stays.
  virtual void relu(TensorView x) = 0;

  /// Rotates the first R = 2 * cos.cols() columns of every head, in place.
  ///   x         [T, heads * head_dim] float32, rows may be strided
  ///   cos, sin  [T, R / 2] float32
  virtual void rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin,
                    RopeStyle style) = 0;

  /// Stores keys and values [T, Hk * D] (float32, rows may be strided) in slots [T] of the cache, rounded to
  /// its dtype. FP8: scale = max(amax / max, 1 / (448 * 512)) of the token's head, codes by division.
  virtual void kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                        const KvView& cache) = 0;

  /// Causal attention of every row over its sequence's keys in the cache: y = softmax(scale * q . k) v, in
  /// float32.
  ///   q, y  [T, Hq * D] float32, rows may be strided
  /// Walks the keys in blocks of fixed size counted from the sequence's start, so a row's bits depend on
  /// nothing but its own sequence.
  virtual void attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                         const AttentionSpec& spec, TensorView y) = 0;
};

}  // namespace octet
