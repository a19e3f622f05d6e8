// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_loader.h"

#include <set>
#include <string_view>
#include <utility>

#include "octet/base/cpu_features.h"
#include "octet/base/faults.h"
#include "octet/base/process_memory.h"
#include "octet/loading/load_session.h"
#include "octet/loading/memory_plan.h"
#include "octet/loading/push_session.h"
#include "octet/loading/shared_scales.h"
#include "octet/loading/weight_records.h"

namespace octet {
namespace {

bool drops_page_cache(const LoadOptions& options, const MemoryPlan& plan, const WeightSource& source) {
  if (options.drop_page_cache) return *options.drop_page_cache;
  int64_t file_bytes = 0;
  for (const SourceTensor& tensor : source.tensors()) file_bytes += tensor.bytes();
  return available_memory_bytes() < plan.peak_bytes + file_bytes;
}

void warn_about(const LoadReport& report, const WarningSink& warn) {
  if (!warn) return;
  if (!report.unused.empty()) {
    std::string text = std::to_string(report.unused.size()) + " tensors of the checkpoint are not used:";
    for (size_t i = 0; i < report.unused.size() && i < Faults::kShown; ++i)
      text += " " + quote(report.unused[i]);
    if (report.unused.size() > Faults::kShown) text += " and more";
    warn(text);
  }
  for (const TwinDifference& twin : report.twins) {
    if (twin.differing == 0) continue;
    warn(quote(twin.name) + " and " + quote(twin.twin) + " are one table in this model but differ in " +
         std::to_string(twin.differing) + " values (by at most " + std::to_string(twin.max_abs_difference) +
         "); the first is used for both");
  }
  if (const auto underflow = underflow_warning(report.quality())) warn(*underflow);
}

const void* key_of(const Parameter& parameter) {
  return std::visit([](auto* target) { return static_cast<const void*>(target); }, parameter.destination);
}

/// Of the destinations of which the source has something.
std::vector<Parameter> offered_parameters(std::span<const Parameter> parameters, const WeightSource& source) {
  std::set<std::string_view> names;
  for (const SourceTensor& tensor : source.tensors()) names.insert(tensor.name);
  std::set<const void*> offered;
  for (const Parameter& parameter : parameters) {
    if (names.contains(parameter.name) || (!parameter.twin.empty() && names.contains(parameter.twin)))
      offered.insert(key_of(parameter));
  }
  std::vector<Parameter> result;
  for (const Parameter& parameter : parameters) {
    if (offered.contains(key_of(parameter))) result.push_back(parameter);
  }
  return result;
}

}  // namespace

WeightLoader::WeightLoader(Backend& backend, std::vector<Parameter> parameters, LoadOptions options)
    : backend_(backend), parameters_(std::move(parameters)), options_(std::move(options)) {}

WeightLoader::~WeightLoader() = default;

void WeightLoader::begin(std::vector<SourceTensor> announced) {
  check(session_ == nullptr, "a load has begun already");
  session_ = std::make_unique<PushSession>(backend_, parameters_, options_, announced);
}

void WeightLoader::push(const TensorPiece& piece) {
  if (session_ == nullptr) {
    throw ArgumentError("tensor " + quote(piece.name) +
                        ": pushed while no load is under way, before begin or after finish");
  }
  session_->push(piece);
}

LoadReport WeightLoader::finish() {
  check(session_ != nullptr, "finish without begin");
  began_writing_ = session_->began_writing();
  const std::unique_ptr<PushSession> session = std::move(session_);
  return session->finish([&](const LoadReport& report) { warn_about(report, options_.warn); });
}

bool WeightLoader::began_writing() const {
  return session_ != nullptr ? session_->began_writing() : began_writing_;
}

void WeightLoader::abandon() {
  if (session_ != nullptr) began_writing_ = session_->began_writing();
  session_.reset();
}

LoadReport WeightLoader::pull(const WeightSource& source) {
  began_writing_ = false;
  const LoadTarget target = load_target(backend_);
  const std::unique_ptr<DestinationStorage> storage = make_storage(options_.into, backend_);
  Bindings bindings;
  fail_together(options_.peers, [&] {
    offered_ = options_.partial ? offered_parameters(parameters_, source) : parameters_;
    bindings = bind_parameters(offered_, source, options_, target);
    for (const Destination& destination : bindings.destinations) {
      if (!destination.pieces.empty()) storage->check(destination);
    }
  });
  agree_on_shared_scales(bindings.pieces, options_.peers);
  TileGeometry geometry;
  fail_together(options_.peers,
                [&] { geometry = load_geometry(bindings, source, options_, target.threads); });
  const MemoryPlan plan = plan_memory(bindings, geometry);
  MemoryLedger& ledger = backend_.ledger();
  ledger.restart_peak();
  const int64_t held_before = ledger.current();

  LoadReport report;
  report.predicted_final_bytes = plan.final_bytes;
  report.predicted_peak_bytes = plan.peak_bytes;
  report.process_rss_before_bytes = process_memory().resident_bytes;
  LoadMeter meter(ledger, options_.progress, plan.read_bytes, held_before + plan.peak_bytes);
  LoadSession session(
      {.backend = backend_,
       .source = source,
       .bindings = bindings,
       .geometry = geometry,
       .meter = meter,
       .storage = *storage,
       .peers = options_.peers,
       .allow_nonfinite = options_.allow_nonfinite,
       .drop_page_cache = drops_page_cache(options_, plan, source),
       .read_ahead = read_ahead_window(available_memory_bytes(), plan.peak_bytes,
                                       options_.peers != nullptr ? options_.peers->world_size() : 1)});
  began_writing_ = true;
  session.run();

  fail_together(options_.peers, [&] {
    report.process_peak_rss_bytes = process_memory().peak_resident_bytes;
    report.read_bytes = meter.read_bytes();
    report.seconds = meter.seconds();
    report.timeline = meter.timeline();
    report.weights = weight_records(source, bindings, session.results());
    report.missing = bindings.absent;
    for (const SourceTensor* tensor : bindings.unused) report.unused.push_back(tensor->name);
    report.twins = session.twins();
    warn_about(report, options_.warn);
  });
  session.commit();  // nothing fails from here on
  report.final_bytes = ledger.current() - held_before;
  report.peak_bytes = ledger.peak() - held_before;
  return report;
}

}  // namespace octet
