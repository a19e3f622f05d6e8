// SPDX-License-Identifier: Apache-2.0
/// Writes a safetensors file: the tensors are declared first, then their bytes come as a stream in that
/// order, or each at its own place in any order.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octet/base/file_writer.h"
#include "octet/core/dtype.h"

namespace octet {

struct TensorDeclaration {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

/// The file appears under its name, whole, when finish() returns; until then it has a temporary name in the
/// same folder, and is removed if the writer is destroyed first. A file that was there before is replaced
/// only then. Neither copied nor moved. `write` may be called from several threads at once, the rest from
/// one.
class SafetensorsWriter {
 public:
  using Metadata = std::map<std::string, std::string>;

  /// Throws ArgumentError on a name that occurs twice or is not UTF-8 and on sizes that overflow; DeviceError
  /// when the file cannot be made.
  SafetensorsWriter(std::filesystem::path path, std::span<const TensorDeclaration> tensors,
                    const Metadata& metadata = {{"format", "pt"}});

  /// The next bytes of the data, row-major, in order of declaration; pieces of any size. Throws ArgumentError
  /// when they are more than was declared; DeviceError when the disk is full or fails.
  void append(std::span<const std::byte> bytes);
  /// The bytes of tensor `index` (of the declarations) from byte `begin` on. Each byte is written once, here
  /// or by `append`; the count of them is checked at the end. Throws as `append`.
  void write(size_t index, int64_t begin, std::span<const std::byte> bytes);
  /// Bytes of data still to come.
  [[nodiscard]] int64_t remaining() const { return remaining_; }
  /// Throws ArgumentError when bytes are missing; DeviceError when the file cannot be made durable.
  void finish();

 private:
  std::vector<int64_t> ends_;  // of each tensor, from the first byte of data
  int64_t data_begin_ = 0;
  int64_t appended_ = 0;
  std::atomic<int64_t> remaining_ = 0;
  std::unique_ptr<FileWriter> file_;
};

/// Bytes of its data. Throws ArgumentError when they overflow or are not whole.
[[nodiscard]] int64_t tensor_bytes(const TensorDeclaration& tensor);
/// Bytes of the file that SafetensorsWriter would write. Throws as its constructor.
[[nodiscard]] int64_t safetensors_file_bytes(std::span<const TensorDeclaration> tensors,
                                             const SafetensorsWriter::Metadata& metadata = {
                                                 {"format", "pt"}});

}  // namespace octet
