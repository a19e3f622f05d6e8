// SPDX-License-Identifier: Apache-2.0
/// New weights for a model that is loaded, and the digests that tell one state of it from another.
#include <algorithm>

#include "octet/base/cpu_features.h"
#include "octet/base/faults.h"
#include "octet/base/out_of_memory.h"
#include "octet/llm/model.h"
#include "octet/loading/gathered_digest.h"
#include "octet/quant/name_pattern.h"

namespace octet {
namespace {

/// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight".
std::string_view module_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(0, dot);
}

const void* key_of(const Parameter& parameter) {
  return std::visit([](auto* target) { return static_cast<const void*>(target); }, parameter.destination);
}

int64_t stored_bytes(const Parameter& parameter) {
  if (auto* const* matrix = std::get_if<StoredMatrix*>(&parameter.destination))
    return (*matrix)->matrix.bytes();
  return std::get<StoredVector*>(parameter.destination)->tensor.bytes();
}

}  // namespace

/// Those of the destinations that a module names, with the other members of merged ones.
std::vector<Parameter> Model::parameters_of(const ReloadOptions& options) {
  std::vector<Parameter> all = decoder_->parameters();
  if (options.modules.empty()) return all;
  Faults faults;
  std::set<const void*> chosen;
  for (const std::string& text : options.modules) {
    const NamePattern pattern(text);
    const size_t before = chosen.size();
    bool any = false;
    for (const Parameter& parameter : all) {
      if (!pattern.matches(module_of(parameter.name))) continue;
      chosen.insert(key_of(parameter));
      any = true;
    }
    if (!any && chosen.size() == before) faults.add(quote(text) + " names no module of this model");
  }
  faults.throw_if_any<ArgumentError>("reload");
  std::vector<Parameter> result;
  for (const Parameter& parameter : all) {
    if (chosen.contains(key_of(parameter))) result.push_back(parameter);
  }
  return result;
}

int64_t Model::reload_bytes(const ReloadOptions& options) {
  if (options.mode == ReloadMode::kInPlace) return 0;
  int64_t bytes = 0;
  std::set<const void*> seen;
  for (const Parameter& parameter : parameters_of(options)) {
    if (seen.insert(key_of(parameter)).second) bytes += stored_bytes(parameter);
  }
  return bytes;
}

std::unique_ptr<WeightLoader> Model::reloader(const ReloadOptions& options) {
  if (reloader_ != nullptr)
    throw ArgumentError("a reload is under way: finish or abandon it before another begins");
  LoadOptions load = load_options();
  fail_together(load.peers, [&] {
    // The ranks of a machine share its memory.
    const int64_t available = available_memory_bytes() / communicator_.local_ranks();
    const int64_t needed = reload_bytes(options) + plan_.loading_bytes;
    if (available <= 0 || needed <= available) return;
    throw OutOfMemoryError(folder_.string() + ": a reload needs " + std::to_string(needed) +
                           " bytes of memory beside the weights, but only " + std::to_string(available) +
                           " are available; reload in place, or some modules at a time");
  });
  load.into = options.mode == ReloadMode::kInPlace ? LoadInto::kInPlace : LoadInto::kSecondCopy;
  if (!options.modules.empty()) load.warn = {};  // that the other tensors are not used is no news
  return std::make_unique<WeightLoader>(*backend_, parameters_of(options), load);
}

void Model::note_failure(const WeightLoader& loader, ReloadMode mode, const std::string& why) {
  if (mode == ReloadMode::kAtomic || !loader.began_writing()) {
    if (stale_.empty()) incomplete_.clear();
    return;
  }
  for (const Parameter& parameter : parameters_of(reload_options_)) stale_.insert(parameter.name);
  incomplete_ =
      "the weights are incomplete: a reload in place ended half-way (" + why + "); reload them to go on";
}

void Model::note_success(LoadReport report, const ReloadOptions& options) {
  digests_.clear();
  report_ = std::move(report);
  for (const Parameter& parameter : parameters_of(options)) stale_.erase(parameter.name);
  if (stale_.empty()) {
    incomplete_.clear();
  } else {
    incomplete_ = "the weights are incomplete: " + std::to_string(stale_.size()) +
                  " tensors of a reload that ended half-way are still to be loaded, the first is " +
                  quote(*stale_.begin());
  }
}

const LoadReport& Model::reload(const WeightSource& source, const ReloadOptions& options) {
  const std::unique_ptr<WeightLoader> loader = reloader(options);
  reload_options_ = options;
  try {
    note_success(loader->pull(source), options);
  } catch (const std::exception& error) {
    note_failure(*loader, options.mode, error.what());
    throw;
  }
  return report_;
}

WeightLoader& Model::begin_reload(const ReloadOptions& options, std::vector<SourceTensor> announced) {
  reloader_ = reloader(options);
  reload_options_ = options;
  reloader_->begin(std::move(announced));
  if (options.mode == ReloadMode::kInPlace)
    incomplete_ = "the weights are incomplete: a reload in place is under way; finish it to go on";
  return *reloader_;
}

const LoadReport& Model::finish_reload() {
  check(reloader_ != nullptr, "no reload is under way");
  const std::unique_ptr<WeightLoader> loader = std::move(reloader_);
  try {
    note_success(loader->finish(), reload_options_);
  } catch (const std::exception& error) {
    note_failure(*loader, reload_options_.mode, error.what());
    throw;
  }
  return report_;
}

void Model::abandon_reload() {
  check(reloader_ != nullptr, "no reload is under way");
  const std::unique_ptr<WeightLoader> loader = std::move(reloader_);
  loader->abandon();
  note_failure(*loader, reload_options_.mode, "it was abandoned");
}

std::vector<WeightDigest> Model::digests() {
  if (communicator_.world_size() == 1) return weight_digests(*backend_, decoder_->parameters());
  if (digests_.empty()) digests_ = gathered_digests(*backend_, decoder_->parameters(), communicator_);
  return digests_;
}

}  // namespace octet
