// SPDX-License-Identifier: Apache-2.0
#include "bench/random_weights.h"

#include <algorithm>
#include <cstring>

#include "bench/bench_support.h"

namespace octet::bench {
namespace {

/// Codes spread over all magnitudes; this keeps the sums of a row near 1.
constexpr float kScale = 0.0002F;
constexpr float kSpread = 0.02F;  // of weights that are not quantized

void fill_vector(StoredVector& vector, bool bias, Backend& backend, MemoryLedger& ledger) {
  vector.tensor = Tensor(Buffer(backend.allocator(), ledger, "weights", vector.size * 4), DType::kF32,
                         Shape{vector.size});
  std::fill_n(vector.tensor.view().row<float>(0), vector.size, bias ? 0.0F : 1.0F);
}

void fill_bf16(std::span<std::byte> bytes, uint64_t seed) {
  std::vector<float> some(1 << 16);
  fill_bell(some, seed);
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    const float value = some[i / 2 % some.size()] * kSpread;
    std::memcpy(bytes.data() + i, reinterpret_cast<const std::byte*>(&value) + 2, 2);
  }
}

void fill_matrix(StoredMatrix& matrix, Backend& backend, MemoryLedger& ledger, uint64_t& seed) {
  const bool fp8 = matrix.rule.quantize;
  const MatrixSpec spec{.dtype = fp8 ? DType::kF8E4M3 : DType::kBF16,
                        .rows = matrix.rows,
                        .cols = matrix.cols,
                        .layout = matrix.lookup_only ? MatrixLayout::kRowMajor : backend.weight_layout(),
                        .scale_kind = fp8 ? ScaleKind::kRow : ScaleKind::kNone,
                        .parts = {}};
  matrix.matrix = QuantMatrix(backend.allocator(), ledger, "weights", spec);
  const QuantMatrixView view = matrix.matrix.view();
  const std::span<std::byte> bytes(view.data, element_bytes(matrix).size());
  if (!fp8) return fill_bf16(bytes, ++seed);
  fill_codes(bytes, ++seed);
  std::fill_n(view.scales, spec.rows, kScale);
}

}  // namespace

std::span<const std::byte> element_bytes(const StoredMatrix& matrix) {
  const MatrixSpec& spec = matrix.matrix.spec();
  return {matrix.matrix.view().data,
          static_cast<size_t>(matrix_bytes(spec.layout, spec.dtype, spec.rows, spec.cols))};
}

void fill_parameter(const Parameter& parameter, Backend& backend, MemoryLedger& ledger, uint64_t& seed) {
  if (auto* const* vector = std::get_if<StoredVector*>(&parameter.destination)) {
    if ((*vector)->tensor.empty()) fill_vector(**vector, parameter.name.ends_with("bias"), backend, ledger);
    return;
  }
  StoredMatrix& matrix = *std::get<StoredMatrix*>(parameter.destination);
  if (matrix.matrix.empty()) fill_matrix(matrix, backend, ledger, seed);
}

}  // namespace octet::bench
