// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/checkpoint_source.h"

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

void CheckpointSource::drop_cache(const SourceTensor& tensor) const {
  checkpoint_.drop_cache(checkpoint_.tensors()[tensor.index]);
}

}  // namespace octet
