// SPDX-License-Identifier: Apache-2.0
/// Repeatable random weights from names and shapes alone (`--load-format dummy`), so that the speed and
/// memory of a model can be tried before it is downloaded.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/parameter.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// Matrices and biases are near N(0, 0.02), norm weights near 1 + N(0, 0.02). A value depends on the tensor's
/// name and on its own place only: not on the order or size of reads, nor on the other tensors.
class DummyWeights final : public WeightSource {
 public:
  /// One tensor of `dtype` (F32, F16 or BF16) for each required parameter, in their order. Copies what it
  /// needs.
  DummyWeights(std::span<const Parameter> parameters, DType dtype);

  [[nodiscard]] std::string describe() const override { return "random weights"; }
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override;
  int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                     std::span<std::byte> into) const override;

 private:
  /// The values of some elements of the flat tensor.
  void draw(const SourceTensor& tensor, IndexRange elements, std::span<std::byte> into) const;

  static constexpr size_t kQuantiles = 4096;

  std::vector<SourceTensor> tensors_;
  std::array<float, kQuantiles> quantiles_{};  // of N(0, 0.02), all equally likely
};

}  // namespace octet
