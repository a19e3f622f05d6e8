// SPDX-License-Identifier: Apache-2.0
#include "octet/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <string_view>
#include <system_error>

#include "octet/base/error.h"
#include "octet/base/faults.h"
#include "octet/base/file_reader.h"
#include "octet/base/json.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kPickledIndex = "pytorch_model.bin.index.json";
constexpr std::string_view kPickled = "pytorch_model.bin";
constexpr std::string_view kMistralIndex = "consolidated.safetensors.index.json";
constexpr std::string_view kMistralSingle = "consolidated.safetensors";

std::vector<std::string> list_folder(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator it(folder, error);
  if (error) throw FormatError(folder.string() + ": not a folder that can be read: " + error.message());
  std::vector<std::string> names;
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) throw FormatError(folder.string() + ": cannot be listed: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string list(const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) text += (i > 0 ? ", " : "") + quote(names[i]);
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text.empty() ? "nothing" : text;
}

std::vector<std::string> ending_in(const std::vector<std::string>& names,
                                   std::initializer_list<std::string_view> ends) {
  std::vector<std::string> result;
  for (const std::string& name : names) {
    if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return name.ends_with(end); })) {
      result.push_back(name);
    }
  }
  return result;
}

/// Says what is there instead, and the way out.
[[noreturn]] void refuse_folder(const fs::path& folder, const std::vector<std::string>& names) {
  const std::string expected =
      folder.string() + ": expected " + std::string(kIndex) + " or " + std::string(kSingle);
  const auto pickled = ending_in(names, {".bin", ".pt", ".pth"});
  const auto gguf = ending_in(names, {".gguf"});
  if (!pickled.empty()) {
    throw FormatError(expected + " (or " + std::string(kPickled) + ", or " + std::string(kPickledIndex) +
                      "), found " + list(pickled) + ": files of other names are not read");
  }
  if (!gguf.empty()) {
    throw FormatError(expected + ", found " + list(gguf) +
                      ": GGUF is not read; fetch the model's safetensors files");
  }
  throw FormatError(expected + ", found " + list(names));
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

const Json& weight_map_of(const Json& index, const std::string& source) {
  if (!index.is_object()) throw FormatError(source + ": expected an object");
  const auto it = index.find("weight_map");
  if (it == index.end() || !it->is_object()) {
    throw FormatError(source + ": weight_map: expected an object of tensor names and file names, found " +
                      (it == index.end() ? "nothing" : it->type_name()));
  }
  if (it->empty()) throw FormatError(source + ": weight_map: names no tensor");
  return *it;
}

CheckpointFiles read_index(const fs::path& folder, std::string_view name) {
  const std::string source = (folder / name).string();
  const Json index = parse_json(read_text_file(source), source);
  CheckpointFiles files;
  files.index_name = name;
  std::map<std::string, std::vector<std::string>> by_file;
  Faults faults;
  for (const auto& [tensor, file] : weight_map_of(index, source).items()) {
    if (!file.is_string()) {
      faults.add("weight_map: " + quote(tensor) + ": expected a file name, found " +
                 quote(file.dump(-1, ' ', true)));
    } else if (!is_plain_name(file.get_ref<const std::string&>())) {
      faults.add("weight_map: " + quote(tensor) + ": expected a plain file name inside the folder, found " +
                 quote(file.get_ref<const std::string&>()));
    } else {
      by_file[file.get_ref<const std::string&>()].push_back(tensor);
    }
  }
  faults.throw_if_any<FormatError>(source);
  for (auto& [file, tensors] : by_file) {
    for (std::string& tensor : tensors) files.file_of.emplace(std::move(tensor), files.names.size());
    files.names.push_back(file);
  }
  return files;
}

}  // namespace

FoundLayout find_layout(const fs::path& folder) {
  const auto names = list_folder(folder);
  const auto has = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const bool mistral = has("params.json") && (has(kMistralIndex) || has(kMistralSingle));
  const bool own = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name == kIndex || name == kPickledIndex || name == kPickled ||
           (name.starts_with("model") && name.ends_with(".safetensors"));
  });
  if (has("config.json") && own) return {.layout = CheckpointLayout::kHuggingFace, .both = mistral};
  const bool described = has("params.json") && !has("config.json");
  return {.layout = mistral || described ? CheckpointLayout::kMistral : CheckpointLayout::kHuggingFace};
}

CheckpointFiles find_checkpoint_files(const fs::path& folder, CheckpointLayout layout) {
  const auto names = list_folder(folder);
  const auto has = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (layout == CheckpointLayout::kMistral) {
    if (has(kMistralIndex)) return read_index(folder, kMistralIndex);
    if (has(kMistralSingle)) return {{std::string(kMistralSingle)}, {}, {}};
    throw FormatError(folder.string() + ": expected " + std::string(kMistralIndex) + " or " +
                      std::string(kMistralSingle) + " beside params.json, found " + list(names));
  }
  if (has(kIndex)) return read_index(folder, kIndex);
  if (has(kSingle)) return {{std::string(kSingle)}, {}, {}};
  const auto candidates = ending_in(names, {".safetensors"});
  if (candidates.empty()) {
    if (has(kPickledIndex)) return read_index(folder, kPickledIndex);
    if (has(kPickled)) return {{std::string(kPickled)}, {}, {}};
    refuse_folder(folder, names);
  }
  if (candidates.size() > 1) {
    throw FormatError(folder.string() + ": " + std::to_string(candidates.size()) +
                      " safetensors files without a " + std::string(kIndex) +
                      " that says which belong together: " + list(candidates));
  }
  return {candidates, {}, {}};
}

}  // namespace octet
