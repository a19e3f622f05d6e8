// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/model_files.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "octet/base/error.h"
#include "octet/base/file_reader.h"
#include "octet/base/file_writer.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kStep = int64_t{1} << 20;
constexpr std::array<std::string_view, 12> kWeightEndings = {".safetensors", ".bin",  ".pt",   ".pth",
                                                             ".ckpt",        ".gguf", ".onnx", ".h5",
                                                             ".msgpack",     ".npz",  ".ot",   ".index.json"};
constexpr std::array<std::string_view, 2> kRewritten = {"config.json", "hf_quant_config.json"};

bool accompanies(const std::string& name) {
  if (name.starts_with('.')) return false;
  if (std::find(kRewritten.begin(), kRewritten.end(), name) != kRewritten.end()) return false;
  return std::none_of(kWeightEndings.begin(), kWeightEndings.end(),
                      [&](std::string_view ending) { return name.ends_with(ending); });
}

}  // namespace

std::vector<fs::path> accompanying_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::error_code ignored;
    if (entry.is_regular_file(ignored) && accompanies(entry.path().filename().string()))
      files.push_back(entry.path());
  }
  if (error) throw FormatError(folder.string() + ": cannot be read: " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

void copy_file_bytes(const fs::path& from, const fs::path& to) {
  const FileReader reader(from);
  FileWriter writer(to);
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kStep, reader.size())));
  for (int64_t offset = 0; offset < reader.size(); offset += kStep) {
    const auto bytes = std::span(buffer).first(static_cast<size_t>(std::min(kStep, reader.size() - offset)));
    reader.read_at(offset, bytes);
    writer.write_at(offset, bytes);
  }
  writer.commit();
}

void write_text_file(const fs::path& path, std::string_view text) {
  FileWriter writer(path);
  writer.write_at(0, std::as_bytes(std::span(text)));
  writer.commit();
}

}  // namespace octet
