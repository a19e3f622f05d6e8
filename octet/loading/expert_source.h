// SPDX-License-Identifier: Apache-2.0
/// Shows the matrices of every expert as tensors of their own, under the names of single experts, where the
/// files hold all experts of a layer in one tensor of three dimensions. So nothing above it knows the layout.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octet/layers/parameter.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// Thread-safe as its inner source is.
class ExpertSource final : public WeightSource {
 public:
  /// Works from the `ExpertPlace` of the parameters, which it copies. A fused tensor is [E, rows, cols], as
  /// transformers 5 writes it, or transposed [E, cols, rows]: told by its shape.
  /// Throws FormatError with every fault together: a number of experts that is not the configuration's, a
  /// shape that is neither, one that could be both, scales that do not divide among the experts' matrices.
  ExpertSource(std::unique_ptr<WeightSource> inner, std::span<const Parameter> parameters);

  [[nodiscard]] std::string describe() const override { return inner_->describe(); }
  /// Those of the inner source; after a fused one, which is marked as split, those of its experts.
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override;
  int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                     std::span<std::byte> into) const override;
  /// Of a transposed matrix, all of its expert.
  [[nodiscard]] std::optional<FileExtent> extent(const SourceTensor& tensor, IndexRange rows,
                                                 IndexRange cols) const override;
  [[nodiscard]] bool in_file_order(const SourceTensor& tensor) const override;
  void drop_cache(const SourceTensor& tensor) const override;

 private:
  /// Where the rows of a tensor shown are in the inner source.
  struct Part {
    size_t inner = 0;  ///< index of the tensor there
    bool whole = true;
    bool transposed = false;
    bool last = false;  ///< of its fused tensor
    int64_t expert = 0;
    int64_t first_row = 0;  ///< in the expert's part
    int64_t rows = 0;       ///< of that part
    int64_t cols = 0;
  };
  struct Builder;

  [[nodiscard]] const SourceTensor& inner_tensor(const Part& part) const {
    return inner_->tensors()[part.inner];
  }
  int64_t read_transposed(const Part& part, IndexRange rows, IndexRange cols,
                          std::span<std::byte> into) const;

  std::unique_ptr<WeightSource> inner_;
  std::vector<SourceTensor> tensors_;
  std::vector<Part> parts_;  // one for each of tensors_
};

/// Whether any of these is a matrix of an expert.
[[nodiscard]] bool has_experts(std::span<const Parameter> parameters);

}  // namespace octet
