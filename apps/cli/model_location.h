// SPDX-License-Identifier: Apache-2.0
/// Where the model that a user means lies on this machine.
#pragma once

#include <filesystem>
#include <string>

namespace octet::cli {

/// A folder, `org/name` in the local Hugging Face cache, or, empty, the bundled model.
/// Throws ConfigError saying what was tried.
[[nodiscard]] std::filesystem::path find_model(const std::string& model);

/// The cache of the hub: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME or ~/.cache + huggingface/hub; may be
/// empty.
[[nodiscard]] std::filesystem::path hub_cache();

}  // namespace octet::cli
