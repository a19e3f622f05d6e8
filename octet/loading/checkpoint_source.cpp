// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/checkpoint_source.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr int64_t kTilesAhead = 3;

}  // namespace

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
  const TensorInfo& info = checkpoint_.tensors()[tensor.index];
  will_need_next(tensor.index, end * Checkpoint::row_bytes(info),
                 kTilesAhead * static_cast<int64_t>(into.size()));
  checkpoint_.read_rows(info, begin, end, into);
}

// Readers take tiles in the order of the files, so what lies behind this tile is read next, by this thread or
// another. The disk brings it while this tile is worked on; the kernel's own look-ahead is a fraction of a
// tile.
void CheckpointSource::will_need_next(size_t index, int64_t begin, int64_t length) const {
  for (const auto& tensors = checkpoint_.tensors(); index < tensors.size() && length > 0;
       ++index, begin = 0) {
    const int64_t part = std::min(length, tensors[index].bytes - begin);
    if (part > 0) checkpoint_.will_need(tensors[index], begin, part);
    length -= part;
  }
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
  checkpoint_.will_need(info, rows.begin * row_bytes, rows.size() * row_bytes);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    checkpoint_.read_bytes(
        info, row * row_bytes + cols.begin * size,
        into.subspan(static_cast<size_t>((row - rows.begin) * segment), static_cast<size_t>(segment)));
  }
  return rows.size() * segment;
}

void CheckpointSource::drop_cache(const SourceTensor& tensor) const {
  checkpoint_.drop_cache(checkpoint_.tensors()[tensor.index]);
}

}  // namespace octet
