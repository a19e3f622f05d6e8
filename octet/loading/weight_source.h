// SPDX-License-Identifier: Apache-2.0
/// Where weights come from, as the loader sees it: a list of tensors and reads of their rows. Implemented
/// over the files of a checkpoint (`CheckpointSource`) and without any file (`DummyWeights`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/base/file_reader.h"
#include "octet/core/dtype.h"
#include "octet/core/shape.h"

namespace octet {

/// One tensor that a source offers. Bytes are little-endian and row-major.
struct SourceTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  ///< as stored, of any rank
  std::string file;            ///< for messages: the file that holds it
  size_t index = 0;            ///< its place in `WeightSource::tensors()`
  bool split = false;          ///< what it holds is offered again in parts, as tensors of their own

  /// Slices along the first dimension; a scalar has one.
  [[nodiscard]] int64_t rows() const { return shape.empty() ? 1 : shape.front(); }
  /// 0 for a shape whose product overflows: such a tensor has no bytes in any file.
  [[nodiscard]] int64_t elements() const;
  [[nodiscard]] int64_t bytes() const;
  /// Elements of one row; 0 for a tensor without rows.
  [[nodiscard]] int64_t cols() const { return rows() == 0 ? 0 : elements() / rows(); }
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// For messages: the folder or file.
  [[nodiscard]] virtual std::string describe() const = 0;
  /// All tensors in the order in which reading is cheapest (by file, then by place in it), sizes checked
  /// against the files. Constant, names unique.
  [[nodiscard]] virtual const std::vector<SourceTensor>& tensors() const = 0;
  /// Fills `into` with rows [begin, end) of a tensor. Called from several threads at once.
  /// Throws FormatError when the file ends first or the disk fails.
  virtual void read_rows(const SourceTensor& tensor, int64_t begin, int64_t end,
                         std::span<std::byte> into) const = 0;
  /// Fills `into` with columns `cols` of rows `rows`, a row being the tensor without its first dimension, and
  /// returns the bytes that were read for it. Like `read_rows` otherwise. Unless overridden it reads whole
  /// rows, one at a time.
  virtual int64_t read_block(const SourceTensor& tensor, IndexRange rows, IndexRange cols,
                             std::span<std::byte> into) const;
  /// Where the block that `read_block` reads lies in a file, from its first byte to its last; nullopt where
  /// it is in none, or scattered.
  [[nodiscard]] virtual std::optional<FileExtent> extent(const SourceTensor& /*tensor*/, IndexRange /*rows*/,
                                                         IndexRange /*cols*/) const {
    return std::nullopt;
  }
  /// Whether the elements of a block lie in its extent in the order of the block: an extent that is as long
  /// as the block is the block.
  [[nodiscard]] virtual bool in_file_order(const SourceTensor& /*tensor*/) const { return true; }
  /// The bytes of this tensor will not be needed again.
  virtual void drop_cache(const SourceTensor& /*tensor*/) const {}
};

}  // namespace octet
