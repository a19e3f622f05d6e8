// SPDX-License-Identifier: Apache-2.0
/// Golden folders with fields and tensors changed, as their makers or an attacker may have left them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "octet/checkpoint/checkpoint.h"
#include "tests/llm/fp8_folder.h"
#include "tests/llm/golden_folder.h"
#include "tests/support/refusal.h"

namespace octet::test {

inline FileTensors tensors_in(const std::filesystem::path& folder) {
  FileTensors result;
  const Checkpoint checkpoint(folder);
  for (const TensorInfo& info : checkpoint.tensors()) {
    FileTensor tensor{.dtype = info.dtype, .shape = info.shape, .bytes = {}};
    tensor.bytes.resize(static_cast<size_t>(info.bytes));
    checkpoint.read_rows(info, 0, info.rows(), tensor.bytes);
    result[info.name] = std::move(tensor);
  }
  return result;
}

inline ModelOptions plain_options() {
  ModelOptions options;
  options.quant.quantization.reset();
  options.dtype = DType::kF32;
  return options;
}

/// A golden folder with its tensors and fields changed.
class Changed {
 public:
  explicit Changed(const std::string& golden)
      : from_(golden_models(golden)), tensors(tensors_in(from_)), fields(Json::object()) {}

  /// Writes the folder; `path` is its place.
  void write() {
    Json config = parse_json(read_text_file(from_ / "config.json"), "config.json");
    for (const auto& [name, value] : fields.items()) config[name] = value;
    folder_.write("config.json", config.dump());
    std::vector<TensorDeclaration> declarations;
    for (const auto& [name, tensor] : tensors) declarations.push_back({name, tensor.dtype, tensor.shape});
    SafetensorsWriter writer(folder_.path() / "model.safetensors", declarations);
    for (const auto& [name, tensor] : tensors) writer.append(tensor.bytes);
    writer.finish();
  }
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
  std::unique_ptr<Model> open() {
    write();
    return std::make_unique<Model>(path(), plain_options());
  }
  template <class E>
  std::string refusal() {
    return test::refusal<E>([&] { (void)open(); });
  }

 private:
  std::filesystem::path from_;
  TempFolder folder_;

 public:
  FileTensors tensors;
  Json fields;
};

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace octet::test
