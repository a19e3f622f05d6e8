// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/export_format.h"

#include <algorithm>
#include <functional>
#include <map>

#include "octet/base/checked_math.h"
#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr std::string_view kTakeRaw = "--format raw holds it";

std::string_view words(ScaleSharing sharing) {
  switch (sharing) {
    case ScaleSharing::kNone:
      return "no scales";
    case ScaleSharing::kTensor:
      return "one scale per matrix";
    case ScaleSharing::kRow:
      return "one scale per row";
    case ScaleSharing::kBlock:
      return "one scale per block";
  }
  return "unknown scales";
}

/// Reasons with the modules they hold for, in the order in which they came up.
class Refusals {
 public:
  void add(const std::string& reason, const std::string& module) {
    const auto [it, added] = counts_.try_emplace(reason, Count{.first = module, .modules = 0});
    if (added) order_.push_back(reason);
    it->second.modules += 1;
  }
  void throw_if_any(ExportFormat format) const {
    Faults faults;
    for (const std::string& reason : order_) {
      const Count& count = counts_.at(reason);
      std::string fault = count.first;
      if (count.modules > 1) fault.append(" and ").append(std::to_string(count.modules - 1)).append(" more");
      if (!fault.empty()) fault.append(": ");
      faults.add(fault.append(reason));
    }
    faults.throw_if_any<ConfigError>("--format " + std::string(to_string(format)) + " cannot say it");
  }

 private:
  struct Count {
    std::string first;
    int64_t modules = 0;
  };
  std::map<std::string, Count> counts_;
  std::vector<std::string> order_;
};

void check_public(const ExportedMatrix& matrix, Refusals& refusals) {
  if (matrix.dtype != DType::kF8E4M3) {
    refusals.add("the format is E4M3 only, found " + std::string(to_string(matrix.dtype)) +
                     "; take --fp8-format e4m3, or " + std::string(kTakeRaw),
                 matrix.module);
  }
  if (matrix.sharing == ScaleSharing::kNone) {
    refusals.add(
        "the format needs scales, a raw cast has none; leave out --raw-cast, or " + std::string(kTakeRaw),
        matrix.module);
  }
}

void check_fp8_tables(const ExportedMatrix& matrix, Refusals& refusals) {
  if (matrix.role == WeightRole::kLinear) return;
  refusals.add(
      "the format holds linear layers only, head and embedding stay in 16 bits there; leave out "
      "--fp8-lm-head and --fp8-embedding, or take --format compressed-tensors",
      matrix.module);
}

void check_fp8(const ExportedMatrix& matrix, Refusals& refusals) {
  check_fp8_tables(matrix, refusals);
  if (matrix.sharing == ScaleSharing::kTensor || matrix.sharing == ScaleSharing::kNone) return;
  refusals.add("the format has one scale per matrix, found " + std::string(words(matrix.sharing)) +
                   "; take --quantization fp8_per_tensor, or --format compressed-tensors",
               matrix.module);
}

void check_fp8_block(const ExportedMatrix& matrix, Refusals& refusals) {
  check_fp8_tables(matrix, refusals);
  const bool fits = matrix.sharing == ScaleSharing::kBlock && matrix.block_rows == kScaleBlock &&
                    matrix.block_cols == kScaleBlock;
  if (fits || matrix.sharing == ScaleSharing::kNone) return;
  refusals.add(
      "the format has one scale per 128 x 128 block, found " +
          (matrix.sharing == ScaleSharing::kBlock
               ? "blocks of " + std::to_string(matrix.block_rows) + " x " + std::to_string(matrix.block_cols)
               : std::string(words(matrix.sharing))) +
          "; take --quantization fp8_per_block, or --format compressed-tensors",
      matrix.module);
}

void check_compressed_tensors(const ExportedMatrix& matrix, Refusals& refusals) {
  if (matrix.sharing != ScaleSharing::kBlock || matrix.cols % matrix.block_cols == 0) return;
  refusals.add("the format's blocks must divide the columns evenly, found " + std::to_string(matrix.cols) +
                   " columns; take --quantization fp8_per_channel, --format fp8-block, or " +
                   std::string(kTakeRaw),
               matrix.module);
}

/// Raw says of each matrix by its scales what it is; only the size of blocks is told beside them.
void find_block(const std::vector<ExportedMatrix>& matrices, ExportedQuantization& result) {
  for (const ExportedMatrix& matrix : matrices) {
    if (matrix.sharing != ScaleSharing::kBlock) continue;
    result.sharing = ScaleSharing::kBlock;
    result.block_rows = matrix.block_rows;
    result.block_cols = matrix.block_cols;
  }
}

/// What all matrices have in common: a scale per matrix can be spread to rows, a grid stands only beside its
/// like.
void find_common(const std::vector<ExportedMatrix>& matrices, ExportedQuantization& result,
                 Refusals& refusals) {
  result.sharing = matrices.front().sharing;
  result.block_rows = matrices.front().block_rows;
  result.block_cols = matrices.front().block_cols;
  for (const ExportedMatrix& matrix : matrices) {
    const bool spread = (matrix.sharing == ScaleSharing::kRow && result.sharing == ScaleSharing::kTensor) ||
                        (matrix.sharing == ScaleSharing::kTensor && result.sharing == ScaleSharing::kRow);
    if (spread) {
      result.sharing = ScaleSharing::kRow;
    } else if (matrix.sharing != result.sharing || matrix.block_rows != result.block_rows ||
               matrix.block_cols != result.block_cols) {
      refusals.add("the format has one kind of scales for all matrices, found " +
                       std::string(words(matrix.sharing)) + " beside " + std::string(words(result.sharing)) +
                       "; " + std::string(kTakeRaw),
                   matrix.module);
    }
  }
}

void check_activations(ExportFormat format, ScaleSharing sharing, ActivationScheme activations,
                       Refusals& refusals) {
  const bool fp8 = format == ExportFormat::kFp8 || format == ExportFormat::kFp8Block;
  if (fp8 && activations == ActivationScheme::kNone) {
    refusals.add(
        "the format knows dynamic and static activations only, found --activation-scheme none; leave it out, "
        "or take --format compressed-tensors",
        "");
  }
  if (format != ExportFormat::kRaw && sharing == ScaleSharing::kBlock &&
      activations == ActivationScheme::kStatic) {
    refusals.add("block scales go with dynamic activations, found --activation-scheme static; take dynamic",
                 "");
  }
}

Json floats(std::string_view strategy, bool dynamic) {
  return {
      {"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", strategy}, {"dynamic", dynamic}};
}

Json compressed_weights(const ExportedQuantization& quantization) {
  switch (quantization.sharing) {
    case ScaleSharing::kTensor:
      return floats("tensor", false);
    case ScaleSharing::kBlock: {
      Json weights = floats("block", false);
      weights["block_structure"] = {quantization.block_rows, quantization.block_cols};
      return weights;
    }
    case ScaleSharing::kNone:
    case ScaleSharing::kRow:
      break;
  }
  return floats("channel", false);
}

Json compressed_inputs(const ExportedQuantization& quantization) {
  if (quantization.activations == ActivationScheme::kNone) return nullptr;
  if (quantization.activations == ActivationScheme::kStatic) return floats("tensor", false);
  if (quantization.sharing != ScaleSharing::kBlock) return floats("token", true);
  Json inputs = floats("group", true);
  inputs["group_size"] = quantization.block_cols;
  return inputs;
}

Json compressed_entry(const ExportedQuantization& quantization) {
  // The package's own word for weights in FP8 beside inputs that are not.
  const char* const layout =
      quantization.activations == ActivationScheme::kNone ? "naive-quantized" : "float-quantized";
  Json targets = {"Linear"};
  if (quantization.embedding) targets.push_back("Embedding");
  const Json group = {{"targets", std::move(targets)},
                      {"weights", compressed_weights(quantization)},
                      {"input_activations", compressed_inputs(quantization)},
                      {"output_activations", nullptr}};
  return {{"quant_method", "compressed-tensors"}, {"format", layout},
          {"quantization_status", "compressed"},  {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},           {"config_groups", {{"group_0", group}}},
          {"ignore", quantization.ignore}};
}

std::string_view activation_word(ActivationScheme scheme) {
  return scheme == ActivationScheme::kStatic ? "static" : "dynamic";
}

/// transformers and vLLM read the list of what was left alone under different names.
Json fp8_entry(const ExportedQuantization& quantization) {
  const bool blocks = quantization.sharing == ScaleSharing::kBlock;
  return {{"quant_method", "fp8"},
          {"fmt", "e4m3"},
          {"activation_scheme", activation_word(quantization.activations)},
          {"weight_block_size",
           blocks ? Json({quantization.block_rows, quantization.block_cols}) : Json(nullptr)},
          {"modules_to_not_convert", quantization.ignore},
          {"ignored_layers", quantization.ignore}};
}

Json raw_entry(const ExportedQuantization& quantization) {
  Json entry = {{"quant_method", "octet"},
                {"format", "raw"},
                {"activation_scheme", to_string(quantization.activations)},
                {"ignore", quantization.ignore}};
  if (quantization.sharing == ScaleSharing::kBlock)
    entry["weight_block_size"] = {quantization.block_rows, quantization.block_cols};
  return entry;
}

}  // namespace

std::string_view to_string(ExportFormat format) {
  switch (format) {
    case ExportFormat::kRaw:
      return "raw";
    case ExportFormat::kCompressedTensors:
      return "compressed-tensors";
    case ExportFormat::kFp8:
      return "fp8";
    case ExportFormat::kFp8Block:
      return "fp8-block";
  }
  return "unknown";
}

int64_t ExportedMatrix::grid_rows() const {
  return ceil_div(rows, block_rows);
}

int64_t ExportedMatrix::grid_cols() const {
  return ceil_div(cols, block_cols);
}

ExportedQuantization express(ExportFormat format, const std::vector<ExportedMatrix>& matrices,
                             ActivationScheme activations) {
  if (matrices.empty()) {
    throw ConfigError(
        "no weight of the model would be stored in FP8, so there is nothing to write; ask for --quantization "
        "fp8, "
        "--fp8-lm-head or --fp8-embedding, or ignore less");
  }
  ExportedQuantization result;
  Refusals refusals;
  for (const ExportedMatrix& matrix : matrices) {
    if (format != ExportFormat::kRaw) check_public(matrix, refusals);
    if (format == ExportFormat::kFp8) check_fp8(matrix, refusals);
    if (format == ExportFormat::kFp8Block) check_fp8_block(matrix, refusals);
    if (format == ExportFormat::kCompressedTensors) check_compressed_tensors(matrix, refusals);
  }
  refusals.throw_if_any(format);
  if (format == ExportFormat::kRaw) {
    find_block(matrices, result);
  } else {
    find_common(matrices, result, refusals);
  }
  check_activations(format, result.sharing, activations, refusals);
  refusals.throw_if_any(format);
  result.activations = activations;
  result.embedding = std::any_of(matrices.begin(), matrices.end(), [](const ExportedMatrix& matrix) {
    return matrix.role == WeightRole::kEmbedding;
  });
  return result;
}

std::string_view scale_suffix(ExportFormat format) {
  return format == ExportFormat::kFp8Block ? "_scale_inv" : "_scale";
}

std::optional<std::vector<int64_t>> scale_shape(ExportFormat format, const ExportedMatrix& matrix,
                                                ScaleSharing sharing) {
  using Sizes = std::vector<int64_t>;
  if (matrix.sharing == ScaleSharing::kNone) return std::nullopt;
  if (matrix.sharing == ScaleSharing::kBlock) return Sizes{matrix.grid_rows(), matrix.grid_cols()};
  if (format == ExportFormat::kRaw) return Sizes{matrix.rows};
  if (format == ExportFormat::kFp8) return Sizes{};
  return sharing == ScaleSharing::kTensor ? Sizes{1} : Sizes{matrix.rows, 1};
}

std::vector<int64_t> input_scale_shape(ExportFormat format) {
  return format == ExportFormat::kCompressedTensors ? std::vector<int64_t>{1} : std::vector<int64_t>{};
}

Json quantization_entry(ExportFormat format, const ExportedQuantization& quantization) {
  switch (format) {
    case ExportFormat::kRaw:
      return raw_entry(quantization);
    case ExportFormat::kCompressedTensors:
      return compressed_entry(quantization);
    case ExportFormat::kFp8:
    case ExportFormat::kFp8Block:
      break;
  }
  return fp8_entry(quantization);
}

}  // namespace octet
