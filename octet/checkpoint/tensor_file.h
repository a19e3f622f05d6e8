// SPDX-License-Identifier: Apache-2.0
/// A file that holds named tensors, whatever its format: what a checkpoint asks of each of its files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/base/page_fetcher.h"
#include "octet/core/dtype.h"

namespace octet {

/// A tensor as its file describes it; the values are still in the file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  ///< any rank; row-major
  int64_t bytes = 0;
  int file = 0;        ///< index in Checkpoint::files()
  int64_t offset = 0;  ///< of the first byte, from the beginning of the file

  /// The first dimension; 1 for a scalar.
  [[nodiscard]] int64_t rows() const { return shape.empty() ? 1 : shape.front(); }
  /// "[2, 3]".
  [[nodiscard]] std::string shape_text() const;
};

/// An open file. Reading is thread-safe.
class TensorFile {
 public:
  virtual ~TensorFile() = default;
  [[nodiscard]] virtual const std::filesystem::path& path() const = 0;
  /// Bytes of the whole file.
  [[nodiscard]] virtual int64_t bytes() const = 0;
  /// Ascending by offset. Their names are unique.
  [[nodiscard]] virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// Fills `into` from byte `begin` of the tensor. Throws ArgumentError when that is outside the tensor,
  /// FormatError when the file has become shorter or the disk fails.
  virtual void read(const TensorInfo& tensor, int64_t begin, std::span<std::byte> into) const = 0;
  /// Where bytes [begin, begin + length) of the tensor lie, for those who fetch them ahead; nullopt where
  /// that is not in one run. Throws ArgumentError when they are outside the tensor.
  [[nodiscard]] virtual std::optional<FileExtent> extent(const TensorInfo& tensor, int64_t begin,
                                                         int64_t length) const = 0;
  /// Drops the tensor's bytes from the page cache.
  virtual void drop_cache(const TensorInfo& tensor) const = 0;
};

}  // namespace octet
