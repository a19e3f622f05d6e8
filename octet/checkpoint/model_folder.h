// SPDX-License-Identifier: Apache-2.0
/// From what a user calls a model to the folder that holds it.
#pragma once

#include <filesystem>
#include <string_view>

namespace octet {

/// `model` is a folder, or `org/name` (or `name`) in the local Hugging Face cache at `hf_cache` (the folder
/// that holds `models--org--name`; may be empty). Nothing is fetched. Throws ConfigError saying what was
/// tried.
[[nodiscard]] std::filesystem::path resolve_model_folder(std::string_view model,
                                                         const std::filesystem::path& hf_cache);

}  // namespace octet
