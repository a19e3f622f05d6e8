// SPDX-License-Identifier: Apache-2.0
/// The tensors of a model's folder, wherever they lie: one table of names over one or many files, and
/// positioned reads of rows. Knows no model and no quantization.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "octet/checkpoint/checkpoint_folder.h"
#include "octet/checkpoint/tensor_file.h"

namespace octet {

/// Owns the open files. Move-only; all const members may be called from several threads at once.
class Checkpoint {
 public:
  /// Opens all files of the folder and reads their headers; no weight is read. Throws FormatError naming
  /// every missing file, malformed header, and tensor that the index promises and its file lacks.
  explicit Checkpoint(const std::filesystem::path& folder,
                      CheckpointLayout layout = CheckpointLayout::kHuggingFace);

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// In order of (file, offset).
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return tensors_; }
  /// nullptr when there is no such tensor. Valid as long as the checkpoint.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  /// Names that a file holds but the index does not map to it: not part of the checkpoint.
  [[nodiscard]] const std::vector<std::string>& unmapped() const { return unmapped_; }
  /// Bytes of all tensors.
  [[nodiscard]] int64_t bytes() const { return bytes_; }
  [[nodiscard]] std::vector<std::filesystem::path> files() const;

  /// Bytes of one row: of the tensor without its first dimension. Throws ArgumentError when that is not whole
  /// bytes.
  [[nodiscard]] static int64_t row_bytes(const TensorInfo& tensor);
  /// Fills `into` with rows [row_begin, row_end) of the first dimension (elements, for a vector), as they lie
  /// in the file. Throws ArgumentError unless the rows exist and fill `into` exactly; FormatError when the
  /// file fails.
  void read_rows(const TensorInfo& tensor, int64_t row_begin, int64_t row_end,
                 std::span<std::byte> into) const;
  /// Fills `into` from byte `begin` of the tensor.
  void read_bytes(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const;
  /// Where bytes [begin, begin + length) of the tensor lie; nullopt where that is not in one run.
  [[nodiscard]] std::optional<FileExtent> extent(const TensorInfo& tensor, int64_t begin,
                                                 int64_t length) const;
  /// Tells the kernel that the tensor will not be read again.
  void drop_cache(const TensorInfo& tensor) const;

 private:
  [[nodiscard]] const TensorFile& file_of(const TensorInfo& tensor) const;

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<TensorFile>> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;  // keys point into tensors_
  std::vector<std::string> unmapped_;
  int64_t bytes_ = 0;
};

/// Opens one file by the ending of its name. Throws FormatError when it is malformed or of an unknown format.
[[nodiscard]] std::unique_ptr<TensorFile> open_tensor_file(const std::filesystem::path& path);

}  // namespace octet
