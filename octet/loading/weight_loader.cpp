// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_loader.h"

#include <utility>

#include "octet/base/cpu_features.h"
#include "octet/base/faults.h"
#include "octet/base/process_memory.h"
#include "octet/loading/load_session.h"
#include "octet/loading/memory_plan.h"
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

}  // namespace

WeightLoader::WeightLoader(Backend& backend, std::vector<Parameter> parameters, LoadOptions options)
    : backend_(backend), parameters_(std::move(parameters)), options_(std::move(options)) {}

LoadReport WeightLoader::pull(const WeightSource& source) {
  const LoadTarget target = load_target(backend_);
  Bindings bindings;
  fail_together(options_.peers, [&] { bindings = bind_parameters(parameters_, source, options_, target); });
  agree_on_shared_scales(bindings.pieces, options_.peers);
  TileGeometry geometry;
  fail_together(options_.peers, [&] { geometry = tile_geometry(bindings, options_, target.threads); });
  const MemoryPlan plan = plan_memory(bindings, geometry);
  MemoryLedger& ledger = backend_.ledger();
  ledger.restart_peak();
  const int64_t held_before = ledger.current();

  LoadReport report;
  report.predicted_final_bytes = plan.final_bytes;
  report.predicted_peak_bytes = plan.peak_bytes;
  report.process_rss_before_bytes = process_memory().resident_bytes;
  LoadMeter meter(ledger, options_.progress, plan.read_bytes, held_before + plan.peak_bytes);
  LoadSession session({.backend = backend_,
                       .source = source,
                       .bindings = bindings,
                       .geometry = geometry,
                       .meter = meter,
                       .peers = options_.peers,
                       .allow_nonfinite = options_.allow_nonfinite,
                       .drop_page_cache = drops_page_cache(options_, plan, source)});
  session.run();

  report.final_bytes = ledger.current() - held_before;
  report.peak_bytes = ledger.peak() - held_before;
  report.process_peak_rss_bytes = process_memory().peak_resident_bytes;
  report.read_bytes = meter.read_bytes();
  report.seconds = meter.seconds();
  report.timeline = meter.timeline();
  report.weights = weight_records(source, bindings, session.results());
  report.missing = bindings.absent;
  for (const SourceTensor* tensor : bindings.unused) report.unused.push_back(tensor->name);
  report.twins = session.twins();
  warn_about(report, options_.warn);
  return report;
}

}  // namespace octet
