// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/model.h"

#include <algorithm>

#include "octet/base/cpu_features.h"
#include "octet/base/file_reader.h"
#include "octet/base/out_of_memory.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/llm/unknown_architecture.h"
#include "octet/loading/checkpoint_source.h"
#include "octet/loading/dummy_weights.h"
#include "octet/loading/expert_source.h"
#include "octet/loading/weight_loader.h"
#include "octet/models/registry.h"

namespace octet {
namespace {

std::string mebibytes(int64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

/// Refuses a model of an unknown architecture with all that keeps it from being the nearest known one.
[[noreturn]] void refuse_unknown(const FolderDescription& described, const std::filesystem::path& folder,
                                 const std::string& asked) {
  std::optional<Checkpoint> weights;
  std::string no_weights;
  try {
    weights.emplace(folder, described.found.layout);
  } catch (const Error& error) {
    no_weights = error.what();
  }
  throw UnsupportedModel(compare_architectures(described.config, described.path.string(), asked,
                                               weights ? &*weights : nullptr, no_weights));
}

}  // namespace

FolderDescription describe_folder(const std::filesystem::path& folder) {
  FolderDescription result;
  result.found = find_layout(folder);
  const bool native = result.found.layout == CheckpointLayout::kMistral;
  result.path = folder / (native ? "params.json" : "config.json");
  result.config = parse_json(read_text_file(result.path), result.path.string());
  try {
    result.spec = native ? read_mistral_params(result.config, result.path.string())
                         : read_decoder_spec(result.config, result.path.string());
  } catch (const UnknownArchitecture& unknown) {
    refuse_unknown(result, folder, unknown.asked());
  }
  return result;
}

Model::Model(std::filesystem::path folder, ModelOptions options)
    : folder_(std::move(folder)),
      options_(std::move(options)),
      communicator_(options_.communicator != nullptr ? *options_.communicator : alone_),
      peers_(communicator_),
      generation_config_(read_generation_config(folder_)),
      backend_(make_backend(options_.device, ledger_)) {
  read_config();
  open_checkpoint();
  quant_spec_ = std::make_unique<QuantSpec>(completed(options_.quant));
  decoder_ = make_decoder(*quant_spec_);
  source_ = make_source();
  refuse_static_activations();
  plan_ = plan_memory(decoder_->parameters(), *source_, load_options(), load_target(*backend_));
  warn_of_options();
}

Model::~Model() = default;

void Model::read_config() {
  const FolderDescription described = describe_folder(folder_);
  layout_ = described.found.layout;
  if (described.found.both) {
    warn(folder_.string() +
         ": holds the weights twice; config.json and the files of its index are read, params.json and "
         "consolidated*.safetensors left alone");
  }
  decoder_spec_ = described.spec;
  if (generation_config_.eos_token_ids) decoder_spec_.eos_token_ids = *generation_config_.eos_token_ids;
  quant_config_ = read_source_quantization(folder_);
}

std::optional<QuantConfig> read_source_quantization(const std::filesystem::path& folder) {
  const FolderDescription described = describe_folder(folder);
  const std::filesystem::path& path = described.path;
  const bool native = described.found.layout == CheckpointLayout::kMistral;
  const auto entry = described.config.find(native ? "quantization" : "quantization_config");
  // Mistral's own words for FP8, beside which its scales stand, name no method: nothing else need be known.
  const bool own_words = native && entry != described.config.end() && !entry->contains("quant_method");
  if (entry != described.config.end() && !entry->is_null() && !own_words)
    return read_quant_config(*entry, path.string());
  // modelopt's own place for it, in folders that it wrote before config.json had one.
  const std::filesystem::path own = folder / "hf_quant_config.json";
  if (!std::filesystem::exists(own)) return std::nullopt;
  return read_quant_config(parse_json(read_text_file(own), own.string()), own.string());
}

/// What a checkpoint left unquantized on purpose stays so, but for the tables, which have options of their
/// own.
QuantOptions Model::completed(QuantOptions quant) const {
  if (!quant_config_) return quant;
  for (const std::string& text : quant_config_->ignore) {
    const NamePattern pattern(text);
    const bool table =
        pattern.matches(decoder_spec_.names.lm_head) || pattern.matches(decoder_spec_.names.embed_tokens);
    if (!table) quant.ignore.push_back(text);
  }
  return quant;
}

/// A file without any scale is told so in a word; where only some are missing, binding names them.
void Model::refuse_static_activations() const {
  if (options_.quant.activation_scheme != ActivationScheme::kStatic) return;
  const auto& tensors = source_->tensors();
  const bool any = std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& tensor) {
    return tensor.name.ends_with(".input_scale") || tensor.name.ends_with(".activation_scale");
  });
  if (any) return;
  throw ConfigError("--activation-scheme static: needs a checkpoint with input scales, but " +
                    folder_.string() + " has none; take dynamic or none");
}

void Model::warn(const std::string& message) const {
  if (options_.warn) options_.warn(message);
}

void Model::warn_of_options() {
  std::vector<std::string> modules;
  for (const Parameter& parameter : decoder_->parameters()) {
    constexpr std::string_view kSuffix = ".weight";
    if (parameter.name.ends_with(kSuffix)) {
      modules.push_back(parameter.name.substr(0, parameter.name.size() - kSuffix.size()));
    }
  }
  if (decoder_spec_.tie_word_embeddings) modules.push_back(decoder_spec_.names.lm_head);
  const auto unmatched = QuantSpec(options_.quant).unmatched_patterns(modules);
  for (const std::string& pattern : unmatched)
    warn("--ignore " + pattern + " matches no module of this model");
  if (decoder_spec_.tie_word_embeddings && (options_.quant.fp8_lm_head || options_.quant.fp8_embedding)) {
    warn("embedding and head of this model are one table: it is stored once, in FP8, for both");
  }
}

std::unique_ptr<Decoder> Model::make_decoder(const QuantSpec& quant_spec) {
  const LayerContext context{.backend = *backend_,
                             .communicator = communicator_,
                             .quant_spec = quant_spec,
                             .compute_dtype = options_.dtype.value_or(decoder_spec_.dtype)};
  return std::make_unique<Decoder>(context, decoder_spec_);
}

void Model::open_checkpoint() {
  if (options_.load_format == LoadFormat::kDummy) return;
  checkpoint_ = std::make_unique<Checkpoint>(folder_, layout_);
  // Where no spelling fits, binding says what is missing.
  decoder_spec_.choose_names([&](const std::string& tensor) { return checkpoint_->find(tensor) != nullptr; });
}

std::unique_ptr<WeightSource> Model::make_source() {
  if (checkpoint_ == nullptr) {
    return std::make_unique<DummyWeights>(decoder_->parameters(), decoder_spec_.dtype);
  }
  auto files = std::make_unique<CheckpointSource>(*checkpoint_);
  const std::vector<Parameter> parameters = decoder_->parameters();
  if (!has_experts(parameters)) return files;
  return std::make_unique<ExpertSource>(std::move(files), parameters);
}

LoadOptions Model::load_options() {
  LoadOptions load;
  load.compute_dtype = dtype();
  load.allow_nonfinite = options_.allow_nonfinite;
  load.drop_page_cache = options_.drop_page_cache;
  // Scales of static activations are read where the options ask for them, and are no news otherwise.
  load.skip.insert(load.skip.end(), {"*.input_scale", "*.activation_scale"});
  load.skip.insert(load.skip.end(), decoder_spec_.skipped_tensors.begin(),
                   decoder_spec_.skipped_tensors.end());
  load.progress = options_.progress;
  if (communicator_.world_size() > 1) load.peers = &peers_;
  load.warn = options_.warn;
  if (quant_config_ && quant_config_->block_rows && quant_config_->block_cols) {
    load.scale_block = BlockSize{.rows = *quant_config_->block_rows, .cols = *quant_config_->block_cols};
  }
  return load;
}

MemoryPlan Model::plan_with(const QuantOptions& quant) {
  const QuantSpec quant_spec(completed(quant));
  const auto decoder = make_decoder(quant_spec);
  return plan_memory(decoder->parameters(), *source_, load_options(), load_target(*backend_));
}

void Model::check_memory() const {
  // The ranks of a machine share its memory.
  const int64_t available = available_memory_bytes() / communicator_.local_ranks();
  if (available <= 0 || plan_.peak_bytes <= available) return;
  throw OutOfMemoryError(folder_.string() + ": loading needs " + mebibytes(plan_.peak_bytes) +
                         " of memory, but only " + mebibytes(available) +
                         " are available; `octet inspect` shows what --quantization fp8, "
                         "--fp8-lm-head and --fp8-embedding save");
}

WeightExporter::Parts Model::export_parts(const ExportOptions& options) {
  return {.backend = *backend_,
          .source = *source_,
          .parameters = decoder_->parameters(),
          .load = load_options(),
          .options = options};
}

const LoadReport& Model::load() {
  check_memory();
  communicator_.barrier();  // before one of them takes memory
  WeightLoader loader(*backend_, decoder_->parameters(), load_options());
  report_ = loader.pull(*source_);
  return report_;
}

void Model::load_parameters(std::vector<Parameter> parameters) {
  LoadOptions load = load_options();
  load.progress = {};
  load.warn = {};
  WeightLoader loader(*backend_, std::move(parameters), load);
  (void)loader.pull(*source_);
}

void release_parameters(std::vector<Parameter>& parameters) {
  for (Parameter& parameter : parameters) {
    if (auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination)) {
      (*matrix)->matrix = {};
    } else {
      std::get<StoredVector*>(parameter.destination)->tensor = {};
    }
  }
}

}  // namespace octet
