// SPDX-License-Identifier: Apache-2.0
/// Writes a safetensors file as a stream: the tensors are declared first, then their bytes come in that
/// order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "octet/core/dtype.h"

namespace octet {

struct TensorDeclaration {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

/// The file appears under its name, whole, when finish() returns; until then it has a temporary name in the
/// same folder, and is removed if the writer is destroyed first. A file that was there before is replaced
/// only then. Neither copied nor moved. One thread at a time.
class SafetensorsWriter {
 public:
  using Metadata = std::map<std::string, std::string>;

  /// Throws ArgumentError on a name that occurs twice or is not UTF-8 and on sizes that overflow; DeviceError
  /// when the file cannot be made.
  SafetensorsWriter(std::filesystem::path path, std::span<const TensorDeclaration> tensors,
                    const Metadata& metadata = {{"format", "pt"}});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// The next bytes of the data, row-major, in order of declaration; pieces of any size. Throws ArgumentError
  /// when they are more than was declared; DeviceError when the disk is full or fails.
  void append(std::span<const std::byte> bytes);
  /// Bytes of data still to come.
  [[nodiscard]] int64_t remaining() const { return remaining_; }
  /// Throws ArgumentError when bytes are missing; DeviceError when the file cannot be made durable.
  void finish();

 private:
  void open_temporary();
  void write(std::span<const std::byte> bytes);
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  int64_t remaining_ = 0;
};

}  // namespace octet
