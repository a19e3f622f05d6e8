// SPDX-License-Identifier: Apache-2.0
/// The files of a model's folder beside its weights and config.json: tokenizer, templates, generation
/// defaults, license. They go with the model wherever it goes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace octet {

/// Regular files of the folder itself (not of folders in it) that are neither weights, nor their indices, nor
/// config.json, nor another tool's description of a quantization; by name. Hidden files are left out.
[[nodiscard]] std::vector<std::filesystem::path> accompanying_files(const std::filesystem::path& folder);

/// Byte for byte, whole or not at all. Throws FormatError when `from` cannot be read, DeviceError when `to`
/// cannot be written.
void copy_file_bytes(const std::filesystem::path& from, const std::filesystem::path& to);
void write_text_file(const std::filesystem::path& path, std::string_view text);

}  // namespace octet
