// SPDX-License-Identifier: Apache-2.0
/// Folders with weights in FP8, as other tools publish them, made from a model that Octet itself quantized:
/// so that codes and scales of both are equal, and with them every logit.
#pragma once

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "octet/base/checked_math.h"
#include "octet/base/file_reader.h"
#include "octet/base/json.h"
#include "octet/checkpoint/safetensors_writer.h"
#include "octet/engine/engine.h"
#include "octet/llm/model.h"
#include "tests/support/temp_folder.h"

namespace octet::test {

struct FileTensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};
using FileTensors = std::map<std::string, FileTensor>;

inline FileTensor float_tensor(std::vector<int64_t> shape, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {.dtype = DType::kF32, .shape = std::move(shape), .bytes = {bytes.begin(), bytes.end()}};
}

enum class ScaleDialect { kScalar, kColumn, kBlockInverse };

/// The tensors of a loaded model: what is in FP8 as its codes and scales, the rest as in the file.
inline FileTensors tensors_of(Model& model, ScaleDialect dialect) {
  FileTensors result;
  for (const SourceTensor& tensor : model.source().tensors()) {
    FileTensor copy{.dtype = tensor.dtype, .shape = tensor.shape, .bytes = {}};
    copy.bytes.resize(static_cast<size_t>(tensor.bytes()));
    model.source().read_rows(tensor, 0, tensor.rows(), copy.bytes);
    result[tensor.name] = std::move(copy);
  }
  for (const Parameter& parameter : model.decoder().parameters()) {
    auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination);
    if (matrix == nullptr || !is_fp8((*matrix)->matrix.spec().dtype)) continue;
    const QuantMatrixView view = (*matrix)->matrix.view();
    const int64_t rows = parameter.shape[0];
    const int64_t cols = parameter.shape[1];
    FileTensor& weight = result[parameter.name];
    weight.dtype = view.dtype;
    weight.bytes.resize(static_cast<size_t>(rows * cols));
    model.backend().read_rows(view, parameter.offset, {weight.bytes.data(), view.dtype, Shape{rows, cols}});
    std::vector<float> scales;
    const int64_t step = dialect == ScaleDialect::kBlockInverse ? kScaleBlock : 1;
    const int64_t last = dialect == ScaleDialect::kScalar ? 1 : rows;
    for (int64_t row = 0; row < last; row += step) {
      const int64_t end = dialect == ScaleDialect::kBlockInverse ? cols : 1;
      for (int64_t col = 0; col < end; col += kScaleBlock)
        scales.push_back(view.scale(parameter.offset + row, col));
    }
    switch (dialect) {
      case ScaleDialect::kScalar:
        result[parameter.name + "_scale"] = float_tensor({}, scales);
        break;
      case ScaleDialect::kColumn:
        result[parameter.name + "_scale"] = float_tensor({rows, 1}, scales);
        break;
      case ScaleDialect::kBlockInverse:
        result[parameter.name + "_scale_inv"] =
            float_tensor({ceil_div(rows, kScaleBlock), ceil_div(cols, kScaleBlock)}, scales);
    }
  }
  return result;
}

/// config.json of `from` with a quantization_config, and the tensors.
inline void write_folder(const std::filesystem::path& folder, const std::filesystem::path& from,
                         const Json& quantization, const FileTensors& tensors) {
  Json config = parse_json(read_text_file(from / "config.json"), "config.json");
  config["quantization_config"] = quantization;
  std::ofstream(folder / "config.json") << config.dump();
  std::vector<TensorDeclaration> declarations;
  for (const auto& [name, tensor] : tensors) declarations.push_back({name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(folder / "model.safetensors", declarations);
  for (const auto& [name, tensor] : tensors) writer.append(tensor.bytes);
  writer.finish();
}

inline std::vector<float> folder_logits(Model& model) {
  Engine engine(model.decoder(), {.max_model_len = 32, .max_step_tokens = 16, .kv_cache_dtype = DType::kF32});
  std::vector<float> all;
  const std::vector<int32_t> ids = {3, 14, 15, 9, 26, 5, 35, 8};
  engine.prompt_logits(ids, [&](int64_t, ConstTensorView logits) {
    for (int64_t row = 0; row < logits.rows(); ++row) {
      all.insert(all.end(), logits.row<float>(row), logits.row<float>(row) + logits.cols());
    }
  });
  return all;
}

}  // namespace octet::test
