// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/model_location.h"

#include <cstdlib>
#include <optional>

#include "apps/cli/build_info.h"
#include "octet/base/error.h"
#include "octet/checkpoint/model_folder.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> environment_path(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

fs::path bundled_model() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  fs::path installed = program.parent_path().parent_path() / "share" / "octet" / "models" / "demo";
  if (fs::is_directory(installed, ignored)) return installed;
  fs::path source = fs::path(build_info().source_folder) / "models" / "demo";
  if (fs::is_directory(source, ignored)) return source;
  throw ConfigError("no MODEL was given, and the bundled one is neither at " + installed.string() +
                    " nor at " + source.string() +
                    "; give a folder, or org/name from the Hugging Face cache");
}

}  // namespace

fs::path hub_cache() {
  if (const auto cache = environment_path("HF_HUB_CACHE")) return *cache;
  if (const auto home = environment_path("HF_HOME")) return *home / "hub";
  if (const auto cache = environment_path("XDG_CACHE_HOME")) return *cache / "huggingface" / "hub";
  if (const auto home = environment_path("HOME")) return *home / ".cache" / "huggingface" / "hub";
  return {};
}

fs::path find_model(const std::string& model) {
  return model.empty() ? bundled_model() : resolve_model_folder(model, hub_cache());
}

}  // namespace octet::cli
