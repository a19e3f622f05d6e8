// SPDX-License-Identifier: Apache-2.0
/// A folder in Hugging Face layout, opened: headers read, memory planned, and then, on request, loaded.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "octet/backend/factory.h"
#include "octet/base/progress.h"
#include "octet/checkpoint/checkpoint.h"
#include "octet/comm/single.h"
#include "octet/core/memory_ledger.h"
#include "octet/llm/generation_config.h"
#include "octet/llm/rank_peers.h"
#include "octet/llm/reload.h"
#include "octet/loading/load_report.h"
#include "octet/loading/memory_plan.h"
#include "octet/loading/weight_digest.h"
#include "octet/loading/weight_exporter.h"
#include "octet/loading/weight_loader.h"
#include "octet/loading/weight_source.h"
#include "octet/models/decoder.h"
#include "octet/quant/quant_config.h"
#include "octet/quant/quant_spec.h"

namespace octet {

/// What a folder says of its model, in its makers' own layout or that of Hugging Face.
struct FolderDescription {
  FoundLayout found;
  std::filesystem::path path;  ///< config.json or params.json
  Json config;                 ///< what it holds
  DecoderSpec spec;
};

/// Throws FormatError when there is no description, UnsupportedModel for an architecture that is not known,
/// ConfigError with all wrong fields.
[[nodiscard]] FolderDescription describe_folder(const std::filesystem::path& folder);

enum class LoadFormat {
  kAuto,   ///< the weights of the folder
  kDummy,  ///< repeatable random weights from config.json alone
};

struct ModelOptions {
  QuantOptions quant;
  std::optional<DType> dtype;  ///< nullopt: the checkpoint's own
  BackendOptions device;
  /// The ranks over which the model is cut; each has a Model of its own, with the same options. nullptr: this
  /// process holds it whole. Must outlive the model.
  Communicator* communicator = nullptr;
  LoadFormat load_format = LoadFormat::kAuto;
  bool allow_nonfinite = false;
  std::optional<bool> drop_page_cache = std::nullopt;  ///< see LoadOptions
  LoadProgressCallback progress;
  WarningSink warn;
};

/// Not movable: its parts point to each other. Not thread-safe.
class Model {
 public:
  /// Reads configuration and headers, builds the layers and plans the memory; takes none for weights yet.
  /// Throws FormatError or ConfigError with every fault of one kind together.
  Model(std::filesystem::path folder, ModelOptions options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] const ModelOptions& options() const { return options_; }
  [[nodiscard]] const GenerationConfig& generation_config() const { return generation_config_; }
  [[nodiscard]] const DecoderSpec& spec() const { return decoder_->spec(); }
  [[nodiscard]] DType dtype() const { return decoder_->context().compute_dtype; }
  [[nodiscard]] Decoder& decoder() { return *decoder_; }
  [[nodiscard]] Backend& backend() { return *backend_; }
  [[nodiscard]] MemoryLedger& ledger() { return ledger_; }
  [[nodiscard]] Communicator& communicator() { return communicator_; }
  [[nodiscard]] const WeightSource& source() const { return *source_; }
  [[nodiscard]] const QuantSpec& quant_spec() const { return *quant_spec_; }

  /// What loading with the options will take, on this rank.
  [[nodiscard]] const MemoryPlan& plan() const { return plan_; }
  /// What it would take with other quantization options.
  [[nodiscard]] MemoryPlan plan_with(const QuantOptions& quant);

  /// Fills all weights, on all ranks at once. Throws DeviceError beforehand when the machine has less memory
  /// left than the plan needs.
  const LoadReport& load();
  [[nodiscard]] const LoadReport& load_report() const { return report_; }

  /// What writes this model to a checkpoint, tile by tile; it never needs `load`. The model must outlive the
  /// exporter.
  [[nodiscard]] WeightExporter::Parts export_parts(const ExportOptions& options);

  /// Bytes that a reload needs beside the weights, without its buffers: none in place, a second copy of what
  /// is loaded otherwise.
  [[nodiscard]] int64_t reload_bytes(const ReloadOptions& options);
  /// Loads new weights, named as in the checkpoint, into the model. It is `load` again: the same rules decide
  /// how each is stored. Throws what `WeightLoader::pull` throws, and DeviceError beforehand when a second
  /// copy would not fit. With kAtomic an error leaves the old weights. With kInPlace one that comes after the
  /// first byte leaves the model incomplete, until another reload, of all that was to come, succeeds.
  const LoadReport& reload(const WeightSource& source, const ReloadOptions& options);
  /// The same for weights that the caller pushes into the loader that this returns, and that `finish_reload`
  /// ends; `abandon_reload` is a failure. In place the model is incomplete between the two.
  WeightLoader& begin_reload(const ReloadOptions& options, std::vector<SourceTensor> announced = {});
  const LoadReport& finish_reload();
  void abandon_reload();
  /// Why the weights cannot be used; empty when they can.
  [[nodiscard]] const std::string& incomplete() const { return incomplete_; }

  /// SHA-256 of each weight that is held. Of a model that is cut, those of the whole weights, on rank 0:
  /// found when all ranks ask for them at once, and remembered from then on.
  [[nodiscard]] std::vector<WeightDigest> digests();

  /// A second decoder over the same files, for a run beside this one (the unquantized reference). Its weights
  /// are loaded piece by piece by `load_parameters`.
  [[nodiscard]] std::unique_ptr<Decoder> make_decoder(const QuantSpec& quant_spec);
  void load_parameters(std::vector<Parameter> parameters);

 private:
  void read_config();
  [[nodiscard]] QuantOptions completed(QuantOptions quant) const;
  void refuse_static_activations() const;
  void warn_of_options();
  void warn(const std::string& message) const;
  [[nodiscard]] LoadOptions load_options();
  void open_checkpoint();
  [[nodiscard]] std::unique_ptr<WeightSource> make_source();
  void check_memory() const;
  [[nodiscard]] std::vector<Parameter> parameters_of(const ReloadOptions& options);
  [[nodiscard]] std::unique_ptr<WeightLoader> reloader(const ReloadOptions& options);
  /// A reload that failed: in place, and after it began to write, the model is incomplete.
  void note_failure(const WeightLoader& loader, ReloadMode mode, const std::string& why);
  void note_success(LoadReport report, const ReloadOptions& options);

  std::filesystem::path folder_;
  ModelOptions options_;
  SingleCommunicator alone_;
  Communicator& communicator_;
  RankPeers peers_;
  GenerationConfig generation_config_;
  CheckpointLayout layout_ = CheckpointLayout::kHuggingFace;
  DecoderSpec decoder_spec_;
  std::optional<QuantConfig> quant_config_;  // of a checkpoint that is in FP8 already
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<QuantSpec> quant_spec_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Checkpoint> checkpoint_;  // none for dummy weights
  std::unique_ptr<WeightSource> source_;    // reads checkpoint_
  MemoryPlan plan_;
  LoadReport report_;
  std::vector<WeightDigest> digests_;       // of a model that is cut, once they have been gathered
  std::unique_ptr<WeightLoader> reloader_;  // of a reload that is pushed
  ReloadOptions reload_options_;
  std::string incomplete_;
  std::set<std::string> stale_;  // parameters that a failed reload may have left half-way
};

/// What the folder of an FP8 checkpoint says of itself, in config.json or in hf_quant_config.json; nullopt:
/// nothing.
[[nodiscard]] std::optional<QuantConfig> read_source_quantization(const std::filesystem::path& folder);

/// Gives back the memory of what these parameters fill.
void release_parameters(std::vector<Parameter>& parameters);

}  // namespace octet
