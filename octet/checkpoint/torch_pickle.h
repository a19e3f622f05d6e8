// SPDX-License-Identifier: Apache-2.0
/// Reads a file that torch.save wrote (pytorch_model.bin), of the zip format and of the one before PyTorch
/// 1.6. The pickle inside is read by a machine that knows only what tensors need; see pickle.h.
#pragma once

#include <vector>

#include "octet/base/file_reader.h"
#include "octet/checkpoint/tensor_file.h"

namespace octet {

/// Tensors may share a storage, and rows of a tensor may lie apart (a slice of columns). Elements that lie in
/// another order than the tensor's own, as in a transposed matrix, are refused.
class TorchPickleFile final : public TensorFile {
 public:
  /// Throws FormatError: for a name in the pickle that is not known, with that name; for tensors that leave
  /// their storage and storages that leave the file, all together.
  explicit TorchPickleFile(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const override { return file_.path(); }
  [[nodiscard]] int64_t bytes() const override { return file_.size(); }
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const override;
  [[nodiscard]] std::optional<FileExtent> extent(const TensorInfo& tensor, int64_t begin,
                                                 int64_t length) const override;
  void drop_cache(const TensorInfo& tensor) const override;

 private:
  /// How a tensor's bytes lie: runs of `run` bytes, and how far apart along each outer dimension.
  struct Layout {
    int64_t run = 0;
    std::vector<int64_t> sizes;    // of the outer dimensions
    std::vector<int64_t> strides;  // in bytes
    int64_t extent = 0;            // from the first byte to the last

    [[nodiscard]] int64_t place(int64_t run_index) const;
  };
  class Reader;

  [[nodiscard]] const Layout& layout_of(const TensorInfo& tensor) const;

  FileReader file_;
  std::vector<TensorInfo> tensors_;
  std::vector<Layout> layouts_;  // of each tensor
};

}  // namespace octet
