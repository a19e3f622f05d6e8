// SPDX-License-Identifier: Apache-2.0
/// A checkpoint in, an FP8 checkpoint out, without ever holding the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "octet/base/json.h"
#include "octet/llm/model.h"
#include "octet/quant/export_format.h"

namespace octet {

struct QuantizeOptions {
  ModelOptions model;  ///< what is stored how; the scheme of activations is what the files say to others
  ExportFormat format = ExportFormat::kCompressedTensors;
  int64_t max_shard_bytes = 5'000'000'000;
  bool overwrite = false;  ///< replace the model that `out` holds
};

struct WrittenFile {
  std::string name;
  int64_t bytes = 0;
};

struct QuantizeReport {
  std::filesystem::path folder;
  ExportFormat format = ExportFormat::kCompressedTensors;
  std::vector<WrittenFile> files;
  int64_t tensors = 0;
  int64_t bytes_before = 0;  ///< of the tensors that were read
  int64_t bytes_after = 0;   ///< of the tensors that were written
  double seconds = 0;        ///< for all of it, until the files are safe
  LoadReport load;           ///< what became of each tensor

  [[nodiscard]] Json to_json() const;
};

/// Quantizes the model in `folder` into `out`: shards with their index, config.json with its
/// quantization_config, and the other files of the folder as they are. Of a folder in Mistral's own layout:
/// consolidated.safetensors, or its shards, and params.json with the entry `quantization`. The new folder
/// appears whole or not at all.
///
/// `auto` activations are written as what the source has: static scales stay, everything else is dynamic.
/// Tensors that the model does not use go over as they are, with a warning. Only the process that calls this
/// writes, so under tensor parallelism one rank does, with the whole model as one rank would have it.
///
/// Throws, before a byte is written, ConfigError for what the format cannot say, ArgumentError when `out` is
/// in the way, DeviceError when the disk is too small; later what WeightExporter::write throws. In each case
/// nothing is left behind and a model that was to be replaced is there still.
[[nodiscard]] QuantizeReport quantize_checkpoint(const std::filesystem::path& folder,
                                                 const std::filesystem::path& out,
                                                 const QuantizeOptions& options);

}  // namespace octet
