// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/model_folder.h"

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/file_reader.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

bool is_part(std::string_view part) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !part.empty() && part != "." && part != ".." &&
         part.find_first_not_of(kAllowed) == std::string_view::npos;
}

/// "models--org--name", or nothing when `model` is no name of the hub.
std::optional<std::string> cache_name(std::string_view model) {
  const size_t slash = model.find('/');
  if (slash == std::string_view::npos) {
    return is_part(model) ? std::optional("models--" + std::string(model)) : std::nullopt;
  }
  const std::string_view org = model.substr(0, slash);
  const std::string_view name = model.substr(slash + 1);
  if (!is_part(org) || !is_part(name)) return std::nullopt;
  return "models--" + std::string(org) + "--" + std::string(name);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

/// The snapshot that refs/main names; else, for a cache filled by commit, the only one there is.
std::optional<fs::path> find_snapshot(const fs::path& entry) {
  std::error_code error;
  if (fs::is_regular_file(entry / "refs" / "main", error)) {
    std::string commit = read_text_file(entry / "refs" / "main", 4096);
    commit.erase(
        std::find_if(commit.begin(), commit.end(), [](char c) { return c == '\n' || c == '\r' || c == ' '; }),
        commit.end());
    if (is_part(commit) && is_folder(entry / "snapshots" / commit)) return entry / "snapshots" / commit;
    return std::nullopt;
  }
  std::vector<fs::path> snapshots;
  for (fs::directory_iterator it(entry / "snapshots", error), end; !error && it != end; it.increment(error)) {
    if (is_folder(it->path())) snapshots.push_back(it->path());
  }
  return snapshots.size() == 1 ? std::optional(snapshots.front()) : std::nullopt;
}

}  // namespace

fs::path resolve_model_folder(std::string_view model, const fs::path& hf_cache) {
  fs::path path(model);
  if (!model.empty() && is_folder(path)) return path;
  const std::string what = "model " + quote(model) + ": ";
  std::error_code ignored;
  if (!model.empty() && fs::exists(path, ignored)) {
    throw ConfigError(
        what + "expected a folder with config.json and weights, found a file; give the folder that holds it");
  }
  const auto name = cache_name(model);
  if (!name) throw ConfigError(what + "there is no such folder, and it is not a name of the form org/name");
  if (hf_cache.empty()) {
    throw ConfigError(what + "there is no such folder, and no Hugging Face cache to look the name up in");
  }
  const fs::path entry = hf_cache / *name;
  if (const auto snapshot = find_snapshot(entry)) return *snapshot;
  const std::string tried =
      is_folder(entry) ? entry.string() + " has no complete snapshot" : entry.string() + " does not exist";
  throw ConfigError(what + "there is no such folder, and " + tried + ". Fetch it first: hf download " +
                    std::string(model));
}

}  // namespace octet
