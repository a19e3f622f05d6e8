// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/quantize.h"

#include <memory>
#include <utility>

#include "octet/base/clock.h"
#include "octet/base/faults.h"
#include "octet/base/file_reader.h"
#include "octet/base/output_folder.h"
#include "octet/llm/model_files.h"
#include "octet/loading/weight_exporter.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
/// What the file will say: a source with static scales keeps them where nothing else was asked for.
ActivationScheme written_scheme(ActivationScheme asked, const std::optional<QuantConfig>& source) {
  if (asked != ActivationScheme::kAuto) return asked;
  return source && source->static_activations ? ActivationScheme::kStatic : ActivationScheme::kDynamic;
}

ModelOptions with_scheme(ModelOptions options, ActivationScheme scheme) {
  options.quant.activation_scheme = scheme;
  return options;
}

/// Whether scales of inputs are read is decided when the layers are made, so what the source has must be
/// known before.
std::unique_ptr<Model> open_model(const fs::path& folder, const ModelOptions& options) {
  const ActivationScheme scheme =
      written_scheme(options.quant.activation_scheme, read_source_quantization(folder));
  return std::make_unique<Model>(folder, with_scheme(options, scheme));
}

/// config.json, or params.json in Mistral's own layout, which has the entry under a shorter name and no
/// dtype.
Json config_of(const Model& model, const FolderDescription& described, const QuantizeOptions& options,
               const ExportPlan& plan) {
  Json config = described.config;
  const bool native = described.found.layout == CheckpointLayout::kMistral;
  config[native ? "quantization" : "quantization_config"] =
      quantization_entry(options.format, plan.quantization);
  if (options.model.dtype && !native) {
    const char* const key = config.contains("dtype") ? "dtype" : "torch_dtype";
    config[key] = torch_name(model.dtype());
  }
  return config;
}

/// "model-00001-of-00002.safetensors" -> "consolidated-00001-of-00002.safetensors": the names by which a
/// folder of Mistral's own layout is known; in the index too.
void rename_as_mistral(const fs::path& folder) {
  constexpr std::string_view kFrom = "model";
  const auto renamed = [&](const std::string& name) { return "consolidated" + name.substr(kFrom.size()); };
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    if (!name.starts_with(kFrom)) continue;
    if (!name.ends_with(".json")) {
      fs::rename(file, folder / renamed(name));
      continue;
    }
    Json index = parse_json(read_text_file(file), file.string());
    for (Json& place : index["weight_map"]) place = renamed(place.get<std::string>());
    write_text_file(folder / renamed(name), index.dump(2) + "\n");
    fs::remove(file);
  }
}

/// What goes with the weights as it is: all but them and their description, which is written anew.
std::vector<fs::path> files_beside(const fs::path& folder, const fs::path& description) {
  std::vector<fs::path> files = accompanying_files(folder);
  std::erase_if(files, [&](const fs::path& file) { return file.filename() == description.filename(); });
  return files;
}

void refuse_own_folder(const fs::path& folder, const fs::path& out) {
  std::error_code ignored;
  if (fs::equivalent(folder, out, ignored))
    throw ArgumentError(out.string() + ": is the model that is read; name another folder");
}

void warn_of(const Model& model, const std::string& text) {
  if (model.options().warn) model.options().warn(text);
}

void warn_of_copies(const Model& model, const ExportPlan& plan) {
  if (plan.copies.empty()) return;
  std::string text =
      std::to_string(plan.copies.size()) + " tensors that this model does not use are written as they are:";
  for (size_t i = 0; i < plan.copies.size() && i < Faults::kShown; ++i)
    text += " " + quote(plan.copies[i].source->name);
  if (plan.copies.size() > Faults::kShown) text += " and more";
  warn_of(model, text);
}

/// The format counts blocks from the first row and column, with a smaller one at the end. transformers takes
/// a grid for blocks of equal size, and would read other values without a word.
void warn_of_ragged_blocks(const Model& model, const ExportPlan& plan, ExportFormat format) {
  if (format != ExportFormat::kFp8Block) return;
  int64_t ragged = 0;
  for (const ExportedPiece& piece : plan.pieces) {
    const std::vector<int64_t>& shape = plan.tensors[piece.weight].shape;
    if (piece.scales && (shape[0] % kScaleBlock != 0 || shape[1] % kScaleBlock != 0)) ++ragged;
  }
  if (ragged == 0) return;
  warn_of(model,
          std::to_string(ragged) +
              " matrices have sides that 128 does not divide: vLLM and Octet read their blocks as they are, "
              "transformers does not; --format compressed-tensors with scales per row is read by all");
}

std::vector<WrittenFile> files_in(const fs::path& folder) {
  std::vector<WrittenFile> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    files.push_back(
        {.name = entry.path().filename().string(), .bytes = static_cast<int64_t>(entry.file_size())});
  }
  std::sort(files.begin(), files.end(),
            [](const WrittenFile& a, const WrittenFile& b) { return a.name < b.name; });
  return files;
}

}  // namespace

QuantizeReport quantize_checkpoint(const fs::path& folder, const fs::path& out,
                                   const QuantizeOptions& options) {
  const auto start = Clock::now();
  refuse_own_folder(folder, out);
  const auto model = open_model(folder, options.model);
  WeightExporter exporter(model->export_parts({.format = options.format,
                                               .max_shard_bytes = options.max_shard_bytes,
                                               .activations = model->options().quant.activation_scheme,
                                               .embedding = model->spec().names.embed_tokens,
                                               .lm_head = model->spec().names.lm_head,
                                               .tied = model->spec().tie_word_embeddings}));
  const ExportPlan& plan = exporter.plan();
  warn_of_copies(*model, plan);
  warn_of_ragged_blocks(*model, plan, options.format);

  OutputFolder target(out,
                      options.overwrite ? OutputFolder::Existing::kReplace : OutputFolder::Existing::kRefuse);
  for (const fs::path& path : target.removed())
    warn_of(*model, path.string() + ": was left behind by a process that was killed; removed");
  const FolderDescription described = describe_folder(folder);
  const std::string config = config_of(*model, described, options, plan).dump(2) + "\n";
  const std::vector<fs::path> others = files_beside(folder, described.path);
  int64_t bytes = plan.shards.file_bytes + static_cast<int64_t>(config.size());
  for (const fs::path& file : others) bytes += static_cast<int64_t>(fs::file_size(file));
  target.require_space(bytes);

  QuantizeReport report;
  report.load = exporter.write(target.staging());
  if (described.found.layout == CheckpointLayout::kMistral) rename_as_mistral(target.staging());
  for (const fs::path& file : others) copy_file_bytes(file, target.staging() / file.filename());
  write_text_file(target.staging() / described.path.filename(), config);
  report.files = files_in(target.staging());
  target.commit();

  report.folder = target.target();
  report.format = options.format;
  report.tensors = static_cast<int64_t>(plan.tensors.size());
  report.bytes_before = plan.bytes_before;
  report.bytes_after = plan.shards.tensor_bytes;
  report.seconds = seconds_since(start);
  if (const auto underflow = underflow_warning(report.load.quality())) warn_of(*model, *underflow);
  return report;
}

Json QuantizeReport::to_json() const {
  Json list = Json::array();
  for (const WrittenFile& file : files) list.push_back({{"name", file.name}, {"bytes", file.bytes}});
  return {{"folder", folder.string()},
          {"format", to_string(format)},
          {"files", std::move(list)},
          {"tensors", tensors},
          {"bytes_before", bytes_before},
          {"bytes_after", bytes_after},
          {"read_bytes", load.read_bytes},
          {"seconds", seconds},
          {"predicted_peak_bytes", load.predicted_peak_bytes},
          {"peak_bytes", load.peak_bytes},
          {"process_peak_rss_bytes", load.process_peak_rss_bytes}};
}

}  // namespace octet
