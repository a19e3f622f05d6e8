// SPDX-License-Identifier: Apache-2.0
/// The operations of a step beside the multiply: shapes are checked and rows handed to the kernels here. Rows
/// go to the threads only where there is work enough for them.
#include <algorithm>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/checked_math.h"
#include "octet/core/float8.h"

namespace octet {
namespace {

/// Waking a thread costs about as much as this many elements do.
constexpr int64_t kElementsPerThread = 32768;

void check_float32(ConstTensorView x, std::string_view operation) {
  if (x.dtype() == DType::kF32) return;  // no text is built on the way of a step
  throw ArgumentError(std::string(operation) + " takes float32 activations");
}

/// Calls body(row) for every row, in pieces that are worth a thread.
template <class Body>
void for_rows(ThreadPool& threads, int64_t rows, int64_t elements_per_row, Body&& body) {
  const int64_t piece = std::max<int64_t>(1, kElementsPerThread / std::max<int64_t>(1, elements_per_row));
  if (threads.threads() == 1 || rows <= piece) {
    for (int64_t row = 0; row < rows; ++row) body(row);
    return;
  }
  threads.parallel_for(ceil_div(rows, piece), [&](int64_t index, int) {
    const int64_t end = std::min(rows, (index + 1) * piece);
    for (int64_t row = index * piece; row < end; ++row) body(row);
  });
}

}  // namespace

void CpuBackend::embed(std::span<const int32_t> ids, const QuantMatrixView& table, TensorView y) {
  check_float32(y, "embed");
  check(y.rows() == static_cast<int64_t>(ids.size()), "embed gives one row for each id");
  check(std::ranges::all_of(ids, [&](int32_t id) { return id >= 0 && id < table.rows; }),
        "a token id lies outside of the table");
  for_rows(threads_, y.rows(), y.cols(),
           [&](int64_t t) { read_rows(table, ids[static_cast<size_t>(t)], y.slice_rows(t, t + 1)); });
}

void CpuBackend::quantize_activations(ConstTensorView x, Precision precision,
                                      std::optional<float> static_scale, const QuantMatrixView& q) {
  check(x.dtype() == DType::kF32 && is_fp8(q.dtype), "quantize_activations takes float32 and gives FP8");
  check(x.rows() == q.rows && (q.rows == 0 || x.cols() == q.cols), "quantize_activations keeps the shape");
  check(q.scale_kind != ScaleKind::kNone, "quantized activations have one scale per row or per group");
  check(q.layout == MatrixLayout::kRowMajor, "quantized activations are row-major");
  const bool grouped = q.scale_kind == ScaleKind::kGrid;
  for_rows(threads_, q.rows, q.cols, [&](int64_t t) {
    const int64_t group = grouped ? q.part_of(t).block_cols : std::max<int64_t>(1, q.cols);
    for (int64_t begin = 0; begin < q.cols; begin += group) {
      const ActivationRun run = {.x = x.row<float>(t) + begin,
                                 .count = std::min(group, q.cols - begin),
                                 .round_to_bfloat16 = precision == Precision::kBFloat16,
                                 .to = q.dtype,
                                 .amax_floor = grouped ? 1e-10F : 0.0F,
                                 .scale_floor = grouped ? 0.0F : kSmallestScale,
                                 .given_scale = static_scale ? &*static_scale : nullptr,
                                 .codes = q.element(t, begin)};
      q.scales[grouped ? q.part_of(t).index(t, begin) : t] = kernels_.elementwise.quantize(run);
    }
  });
}

void CpuBackend::rms_norm(ConstTensorView x, ConstTensorView weight, float eps, TensorView y) {
  check_float32(x, "rms_norm");
  check_float32(y, "rms_norm");
  check(is_real(weight.dtype()), "rms_norm takes weights in F32, F16 or BF16");
  const int64_t dim = weight.cols();
  check(x.shape() == y.shape() && dim > 0 && x.cols() % dim == 0, "rms_norm needs rows of whole runs");
  for_rows(threads_, x.rows(), x.cols(), [&](int64_t t) {
    for (int64_t begin = 0; begin < x.cols(); begin += dim) {
      kernels_.elementwise.rms_norm({.x = x.row<float>(t) + begin,
                                     .count = dim,
                                     .weight = weight.data(),
                                     .weight_dtype = weight.dtype(),
                                     .eps = eps,
                                     .y = y.row<float>(t) + begin});
    }
  });
}

void CpuBackend::layer_norm(ConstTensorView x, const NormParameters& parameters, float eps, TensorView y) {
  check_float32(x, "layer_norm");
  check_float32(y, "layer_norm");
  const auto& [weight, bias] = parameters;
  check((weight.empty() || is_real(weight.dtype())) && (bias.empty() || is_real(bias.dtype())),
        "layer_norm takes weights in F32, F16 or BF16");
  check(x.shape() == y.shape(), "layer_norm keeps the shape");
  check((weight.empty() || weight.cols() == x.cols()) && (bias.empty() || bias.cols() == x.cols()),
        "layer_norm needs a weight and a bias for each column, or none");
  for_rows(threads_, x.rows(), x.cols(), [&](int64_t t) {
    kernels_.elementwise.layer_norm({.x = x.row<float>(t),
                                     .count = x.cols(),
                                     .weight = weight.empty() ? nullptr : weight.data(),
                                     .weight_dtype = weight.dtype(),
                                     .bias = bias.empty() ? nullptr : bias.data(),
                                     .bias_dtype = bias.dtype(),
                                     .eps = eps,
                                     .y = y.row<float>(t)});
  });
}

void CpuBackend::relu(TensorView x) {
  check_float32(x, "relu");
  for_rows(threads_, x.rows(), x.cols(),
           [&](int64_t t) { kernels_.elementwise.relu(x.row<float>(t), x.cols()); });
}

void CpuBackend::add(ConstTensorView x, TensorView y) {
  check_float32(x, "add");
  check_float32(y, "add");
  check(x.shape() == y.shape(), "add needs equal shapes");
  for_rows(threads_, x.rows(), x.cols(),
           [&](int64_t t) { kernels_.elementwise.add(x.row<float>(t), x.cols(), y.row<float>(t)); });
}

void CpuBackend::combine_rows(ConstTensorView x, std::span<const int32_t> rows, ConstTensorView weights,
                              TensorView y) {
  check_float32(x, "combine_rows");
  check_float32(weights, "combine_rows");
  check_float32(y, "combine_rows");
  const int64_t terms = weights.cols();
  check(weights.rows() == y.rows() && static_cast<int64_t>(rows.size()) == y.rows() * terms,
        "combine_rows needs a row and a weight for each term");
  check(y.rows() == 0 || x.cols() == y.cols(), "combine_rows keeps the columns");
  check(std::ranges::all_of(rows, [&](int32_t row) { return row >= 0 && row < x.rows(); }),
        "combine_rows: a row lies outside of x");
  for_rows(threads_, y.rows(), terms * y.cols(), [&](int64_t t) {
    kernels_.elementwise.combine({.x = x.row<float>(0),
                                  .stride = x.row_stride(),
                                  .rows = rows.data() + t * terms,
                                  .weights = weights.row<float>(t),
                                  .terms = terms,
                                  .count = y.cols(),
                                  .y = y.row<float>(t)});
  });
}

void CpuBackend::silu_mul(ConstTensorView gate_up, TensorView y) {
  check_float32(gate_up, "silu_mul");
  check_float32(y, "silu_mul");
  check(gate_up.rows() == y.rows() && (y.rows() == 0 || gate_up.cols() == 2 * y.cols()),
        "silu_mul halves the columns");
  for_rows(threads_, y.rows(), y.cols(), [&](int64_t t) {
    const auto* gate = gate_up.row<float>(t);
    kernels_.elementwise.silu_mul(gate, gate + y.cols(), y.cols(), y.row<float>(t));
  });
}

void CpuBackend::rope(TensorView x, int64_t head_dim, ConstTensorView cos, ConstTensorView sin,
                      RopeStyle style) {
  check_float32(x, "rope");
  const int64_t half = cos.cols();
  check(cos.shape() == sin.shape() && cos.dtype() == DType::kF32 && sin.dtype() == DType::kF32,
        "rope needs float32 cosines and sines of one shape");
  check(x.rows() == cos.rows() && head_dim > 0 && x.cols() % head_dim == 0 && 2 * half <= head_dim,
        "rope needs whole heads that hold the rotated columns");
  const bool interleaved = style == RopeStyle::kInterleaved;
  for_rows(threads_, x.rows(), x.cols(), [&](int64_t t) {
    for (int64_t begin = 0; begin < x.cols(); begin += head_dim) {
      float* head = x.row<float>(t) + begin;
      kernels_.elementwise.rotate({.first = head,
                                   .second = head + (interleaved ? 1 : half),
                                   .step = interleaved ? 2 : 1,
                                   .cos = cos.row<float>(t),
                                   .sin = sin.row<float>(t),
                                   .count = half});
    }
  });
}

void CpuBackend::kv_store(ConstTensorView keys, ConstTensorView values, std::span<const int32_t> slots,
                          const KvView& cache) {
  check_float32(keys, "kv_store");
  check_float32(values, "kv_store");
  check(is_real(cache.dtype) || is_fp8(cache.dtype), "kv_store: the cache is F32, F16, BF16 or FP8");
  check(keys.shape() == values.shape() && keys.rows() == static_cast<int64_t>(slots.size()),
        "kv_store: one key and one value for each slot");
  check(keys.rows() == 0 || keys.cols() == cache.heads * cache.head_dim,
        "kv_store: keys have Hk * D columns");
  check(std::ranges::all_of(slots, [](int32_t slot) { return slot >= 0; }), "kv_store: a slot is negative");
  const int64_t bytes = cache.head_dim * dtype_size(cache.dtype);
  const auto store_vector = [&](const float* x, std::byte* data, float* scales, int64_t vector) {
    std::byte* into = data + vector * bytes;
    if (is_fp8(cache.dtype)) {
      scales[vector] = kernels_.elementwise.quantize(
          {.x = x, .count = cache.head_dim, .to = cache.dtype, .scale_floor = kSmallestScale, .codes = into});
    } else {
      kernels_.quantize.convert(DType::kF32, reinterpret_cast<const std::byte*>(x), cache.head_dim,
                                cache.dtype, into);
    }
  };
  for_rows(threads_, keys.rows(), 2 * keys.cols(), [&](int64_t t) {
    const int64_t slot = slots[static_cast<size_t>(t)];
    for (int64_t head = 0; head < cache.heads; ++head) {
      const int64_t vector =
          (slot / cache.block_size * cache.heads + head) * cache.block_size + slot % cache.block_size;
      store_vector(keys.row<float>(t) + head * cache.head_dim, cache.keys, cache.key_scales, vector);
      if (cache.values == cache.keys) continue;
      store_vector(values.row<float>(t) + head * cache.head_dim, cache.values, cache.value_scales, vector);
    }
  });
}

void CpuBackend::attention(ConstTensorView q, const KvView& cache, const BatchLayout& batch,
                           const AttentionSpec& spec, TensorView y) {
  attention_.run({.q = q, .cache = cache, .batch = batch, .spec = spec, .y = y});
}

}  // namespace octet
