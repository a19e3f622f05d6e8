// SPDX-License-Identifier: Apache-2.0
/// The tensors of a memory source in files of their own.
#pragma once

#include <filesystem>
#include <vector>

#include "octet/checkpoint/checkpoint.h"
#include "octet/checkpoint/safetensors_writer.h"
#include "tests/loading/memory_source.h"
#include "tests/support/temp_folder.h"

namespace octet {

/// Tensors [begin, end) of a source.
inline void write_file(const std::filesystem::path& path, const MemorySource& source, size_t begin,
                       size_t end) {
  std::vector<TensorDeclaration> declarations;
  for (size_t i = begin; i < end; ++i) {
    const SourceTensor& tensor = source.tensors()[i];
    declarations.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
  }
  SafetensorsWriter writer(path, declarations);
  for (size_t i = begin; i < end; ++i) writer.append(source.bytes(source.tensors()[i].name));
  writer.finish();
}

/// All of them in one file of a folder that lives as long as this.
struct WrittenCheckpoint {
  explicit WrittenCheckpoint(const MemorySource& source) : file(write(folder, source)) {}

  const TempFolder folder;
  const std::filesystem::path file;
  const Checkpoint checkpoint{folder.path()};

 private:
  static std::filesystem::path write(const TempFolder& folder, const MemorySource& source) {
    std::filesystem::path path = folder.path() / "model.safetensors";
    write_file(path, source, 0, source.tensors().size());
    return path;
  }
};

}  // namespace octet
