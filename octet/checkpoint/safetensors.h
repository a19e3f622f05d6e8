// SPDX-License-Identifier: Apache-2.0
/// Reads one safetensors file. The header is checked as a whole before a tensor is read; see
/// safetensors_header.h.
#pragma once

#include <map>

#include "octet/base/file_reader.h"
#include "octet/checkpoint/tensor_file.h"

namespace octet {

class SafetensorsFile final : public TensorFile {
 public:
  /// Throws FormatError naming all the faults of the header.
  explicit SafetensorsFile(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const override { return file_.path(); }
  [[nodiscard]] int64_t bytes() const override { return file_.size(); }
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const override;
  [[nodiscard]] std::optional<FileExtent> extent(const TensorInfo& tensor, int64_t begin,
                                                 int64_t length) const override;
  void drop_cache(const TensorInfo& tensor) const override;

  /// `__metadata__`, as a rule {"format": "pt"}.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  FileReader file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace octet
