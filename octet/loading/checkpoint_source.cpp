// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/checkpoint_source.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {

CheckpointSource::CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  const std::vector<std::filesystem::path> files = checkpoint.files();
  for (const TensorInfo& info : checkpoint.tensors()) {
    tensors_.push_back({.name = info.name,
                        .dtype = info.dtype,
                        .shape = info.shape,
                        .file = files.at(static_cast<size_t>(info.file)).filename().string(),
                        .index = tensors_.size()});
  }
}

std::string CheckpointSource::describe() const {
  return checkpoint_.folder().string();
}

void CheckpointSource::read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                                 std::span<std::byte> into) const {
  checkpoint_.read_rows(checkpoint_.tensors()[tensor.index], begin, end, into);
}

int64_t CheckpointSource::read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                                     std::span<std::byte> into) const {
  const TensorInfo& info = checkpoint_.tensors()[tensor.index];
  const int64_t size = dtype_size(tensor.dtype);
  const int64_t row_bytes = Checkpoint::row_bytes(info);
  const int64_t segment = cols.size() * size;
  check(cols.begin >= 0 && cols.begin <= cols.end && cols.end * size <= row_bytes && rows.begin >= 0 &&
            rows.end <= info.rows() && static_cast<int64_t>(into.size()) == rows.size() * segment,
        "the block to read lies outside of tensor " + quote(tensor.name));
  if (segment == 0) return 0;
  if (const auto whole = extent(tensor, rows, cols)) whole->file->will_need(whole->offset, whole->length);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    checkpoint_.read_bytes(
        info, row * row_bytes + cols.begin * size,
        into.subspan(static_cast<size_t>((row - rows.begin) * segment), static_cast<size_t>(segment)));
  }
  return rows.size() * segment;
}

std::optional<FileExtent> CheckpointSource::extent(const SourceTensor& tensor, IndexRange rows,
                                                   IndexRange cols) const {
  const TensorInfo& info = checkpoint_.tensors()[tensor.index];
  const int64_t size = dtype_size(tensor.dtype);
  const int64_t row_bytes = Checkpoint::row_bytes(info);
  const int64_t begin = rows.begin * row_bytes + cols.begin * size;
  return checkpoint_.extent(info, begin, (rows.end - 1) * row_bytes + cols.end * size - begin);
}

void CheckpointSource::drop_cache(const SourceTensor& tensor) const {
  checkpoint_.drop_cache(checkpoint_.tensors()[tensor.index]);
}

}  // namespace octet
