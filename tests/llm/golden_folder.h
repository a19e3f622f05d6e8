// SPDX-License-Identifier: Apache-2.0
/// Golden model folders as tests see them: token ids, the logits that transformers computed, greedy
/// continuations.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "octet/base/file_reader.h"
#include "octet/base/json.h"
#include "octet/checkpoint/safetensors.h"
#include "octet/llm/model.h"
#include "tests/support/source_dir.h"

namespace octet::test {

/// Where the golden model `name` lies.
inline std::filesystem::path golden_models(const std::string& name) {
  const std::filesystem::path root = source_dir() / "tests/golden";
  const std::filesystem::path first = root / "models" / name;
  return std::filesystem::exists(first) ? first : root / "more_models" / name;
}

class GoldenFolder {
 public:
  /// `name` is a folder of tests/golden/models or of tests/golden/more_models.
  explicit GoldenFolder(const std::string& name)
      : folder_(golden_models(name)),
        json_(parse_json(read_text_file(folder_ / "golden.json"), "golden.json")),
        file_(folder_ / "golden.safetensors") {}

  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  [[nodiscard]] const Json& json() const { return json_; }
  [[nodiscard]] std::vector<std::vector<int32_t>> sequences() const { return json_["ids"]; }
  [[nodiscard]] std::vector<int32_t> greedy_prompt() const { return json_["greedy"]["prompt"]; }
  [[nodiscard]] std::vector<int32_t> greedy_ids() const { return json_["greedy"]["ids"]; }
  /// [T, V]; `variant` is empty for the model as it is.
  [[nodiscard]] std::vector<float> logits(const std::string& variant, size_t sequence) const {
    const std::string name = (variant.empty() ? "" : variant + ".") + "logits." + std::to_string(sequence);
    for (const TensorInfo& tensor : file_.tensors()) {
      if (tensor.name != name) continue;
      std::vector<float> values(static_cast<size_t>(tensor.bytes) / sizeof(float));
      file_.read(tensor, 0, std::as_writable_bytes(std::span(values)));
      return values;
    }
    throw ArgumentError("no golden tensor " + name);
  }

 private:
  std::filesystem::path folder_;
  Json json_;
  SafetensorsFile file_;
};

/// Largest difference over the largest logit.
inline double relative_difference(std::span<const float> actual, std::span<const float> expected) {
  double difference = actual.size() == expected.size() ? 0.0 : 1e30;
  double largest = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double d = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
    difference = d <= difference ? difference : d;  // NaN counts as larger
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return difference / largest;
}

}  // namespace octet::test
