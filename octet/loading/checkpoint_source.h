// SPDX-License-Identifier: Apache-2.0
/// A checkpoint's files as a source of weights.
#pragma once

#include <string>
#include <vector>

#include "octet/checkpoint/checkpoint.h"
#include "octet/loading/weight_source.h"

namespace octet {

class CheckpointSource final : public WeightSource {
 public:
  /// `checkpoint` must outlive the source.
  explicit CheckpointSource(const Checkpoint& checkpoint);
  explicit CheckpointSource(Checkpoint&& checkpoint) = delete;  // it would not outlive anything

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                 std::span<std::byte> into) const override;
  /// One positioned read for each row, of the columns alone, behind advice to the kernel to fetch the rows in
  /// one go.
  int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                     std::span<std::byte> into) const override;
  [[nodiscard]] std::optional<FileExtent> extent(const SourceTensor& tensor, IndexRange rows,
                                                 IndexRange cols) const override;
  void drop_cache(const SourceTensor& tensor) const override;

 private:
  const Checkpoint& checkpoint_;
  std::vector<SourceTensor> tensors_;  // index for index those of the checkpoint
};

}  // namespace octet
