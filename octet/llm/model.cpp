// SPDX-License-Identifier: Apache-2.0
#include "octet/llm/model.h"

#include "octet/base/cpu_features.h"
#include "octet/base/file_reader.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/loading/checkpoint_source.h"
#include "octet/loading/dummy_weights.h"
#include "octet/loading/weight_loader.h"
#include "octet/models/registry.h"

namespace octet {
namespace {

DecoderSpec read_spec(const std::filesystem::path& folder, const GenerationConfig& generation) {
  const std::filesystem::path path = folder / "config.json";
  DecoderSpec spec = read_decoder_spec(parse_json(read_text_file(path), path.string()), path.string());
  if (generation.eos_token_ids) spec.eos_token_ids = *generation.eos_token_ids;
  return spec;
}

std::string mebibytes(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

Model::Model(std::filesystem::path folder, ModelOptions options)
    : folder_(std::move(folder)),
      options_(std::move(options)),
      generation_config_(read_generation_config(folder_)),
      decoder_spec_(read_spec(folder_, generation_config_)),
      backend_(make_backend(options_.device, ledger_)),
      quant_spec_(std::make_unique<QuantSpec>(options_.quant)),
      decoder_(make_decoder(*quant_spec_)),
      source_(open_source()) {
  plan_ = plan_memory(decoder_->parameters(), *source_, load_options(), load_target(*backend_));
}

Model::~Model() = default;

std::unique_ptr<Decoder> Model::make_decoder(const QuantSpec& quant_spec) {
  const LayerContext context{.backend = *backend_, .quant_spec = quant_spec,
                             .compute_dtype = options_.dtype.value_or(decoder_spec_.dtype)};
  return std::make_unique<Decoder>(context, decoder_spec_);
}

std::unique_ptr<WeightSource> Model::open_source() {
  if (options_.load_format == LoadFormat::kDummy) {
    return std::make_unique<DummyWeights>(decoder_->parameters(), decoder_spec_.dtype);
  }
  checkpoint_ = std::make_unique<Checkpoint>(folder_);
  return std::make_unique<CheckpointSource>(*checkpoint_);
}

LoadOptions Model::load_options() const {
  LoadOptions load;
  load.compute_dtype = dtype();
  load.allow_nonfinite = options_.allow_nonfinite;
  load.progress = options_.progress;
  load.warn = options_.warn;
  return load;
}

MemoryPlan Model::plan_with(const QuantOptions& quant) {
  const QuantSpec quant_spec(quant);
  const auto decoder = make_decoder(quant_spec);
  return plan_memory(decoder->parameters(), *source_, load_options(), load_target(*backend_));
}

void Model::check_memory() const {
  const int64_t available = available_memory_bytes();
  if (available <= 0 || plan_.peak_bytes <= available) return;
  throw DeviceError(folder_.string() + ": loading needs " + mebibytes(plan_.peak_bytes) + " of memory, but only " +
                    mebibytes(available) + " are available; `octet inspect` shows what --quantization fp8, "
                    "--fp8-lm-head and --fp8-embedding save");
}

const LoadReport& Model::load() {
  check_memory();
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
