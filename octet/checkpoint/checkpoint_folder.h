// SPDX-License-Identifier: Apache-2.0
/// Which files of a folder hold a checkpoint, and in whose layout.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace octet {

/// How a folder names its files and the tensors in them.
enum class CheckpointLayout {
  kHuggingFace,  ///< config.json, model*.safetensors or pytorch_model*.bin
  kMistral,      ///< Mistral's own: params.json, consolidated*.safetensors
};

struct FoundLayout {
  CheckpointLayout layout = CheckpointLayout::kHuggingFace;
  bool both = false;  ///< the folder holds the weights in the other layout too
};

/// Of a folder that holds both: kHuggingFace. Of one that holds neither: that whose description it has.
[[nodiscard]] FoundLayout find_layout(const std::filesystem::path& folder);

struct CheckpointFiles {
  std::vector<std::string> names;         ///< plain file names inside the folder, in order, none twice
  std::map<std::string, size_t> file_of;  ///< tensor -> index in `names`; empty when the folder has no index
  std::string index_name;                 ///< of the index file, empty when there is none
};

/// By `model.safetensors.index.json`; else `model.safetensors`; else the only *.safetensors; else, as older
/// models have it, `pytorch_model.bin.index.json` or `pytorch_model.bin`. Throws
/// FormatError that lists what the folder has when that leaves nothing, or a choice; and when the index is
/// malformed or names a file that is not a plain name inside the folder.
/// In Mistral's layout by `consolidated.safetensors.index.json`, else `consolidated.safetensors`.
[[nodiscard]] CheckpointFiles find_checkpoint_files(const std::filesystem::path& folder,
                                                    CheckpointLayout layout = CheckpointLayout::kHuggingFace);

}  // namespace octet
