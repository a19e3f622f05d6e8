// SPDX-License-Identifier: Apache-2.0
/// Writes a checkpoint as model.safetensors, or as shards of bounded size with their index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "octet/checkpoint/safetensors_writer.h"

namespace octet {

/// Which tensor goes to which file. Tensors fill the shards in the order given; inside a shard those of wide
/// dtypes come first, so that each begins at a multiple of its own element size, as readers that map the file
/// expect.
struct ShardPlan {
  struct Shard {
    std::string file;
    std::vector<TensorDeclaration> tensors;
  };
  struct Place {
    size_t shard = 0;
    size_t index = 0;  ///< in the shard's tensors
  };
  std::vector<Shard> shards;
  std::vector<Place> places;  ///< of each tensor given
  int64_t tensor_bytes = 0;
  int64_t file_bytes = 0;  ///< of all files with their headers, the index included
};

/// A shard takes tensors up to `max_shard_bytes` of data, and at least one. Throws ArgumentError as
/// SafetensorsWriter does.
[[nodiscard]] ShardPlan plan_shards(std::span<const TensorDeclaration> tensors, int64_t max_shard_bytes);

/// `write` may be called from several threads at once, the rest from one. What was written is removed when
/// the writer is destroyed before finish().
class CheckpointWriter {
 public:
  /// `folder` exists; `plan` outlives the writer. No file is made before its first byte.
  CheckpointWriter(std::filesystem::path folder, const ShardPlan& plan);

  /// Bytes of tensor `index` (of those planned) from byte `begin` on; each byte once. Throws DeviceError when
  /// the disk is full or fails.
  void write(size_t index, int64_t begin, std::span<const std::byte> bytes);
  /// Closes the shards that are full, so that few files are open.
  void finish_full_shards();
  /// Closes all and writes the index, where there is more than one. Throws ArgumentError when bytes are
  /// missing.
  void finish();

 private:
  [[nodiscard]] SafetensorsWriter& writer(size_t shard);

  std::filesystem::path folder_;
  const ShardPlan& plan_;
  std::mutex mutex_;  // of writers_
  std::vector<std::unique_ptr<SafetensorsWriter>> writers_;
  std::vector<bool> finished_;
};

}  // namespace octet
