// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/weight_exporter.h"

#include <utility>

#include "octet/base/error.h"
#include "octet/base/process_memory.h"
#include "octet/loading/export_session.h"
#include "octet/loading/weight_records.h"

namespace octet {
namespace {

/// Row-major, as files are, whatever the backend multiplies with.
LoadTarget file_target(Backend& backend) {
  return {.weight_layout = MatrixLayout::kRowMajor, .threads = backend.threads().threads()};
}

}  // namespace

WeightExporter::WeightExporter(Parts parts)
    : parts_(std::move(parts)),
      target_(file_target(parts_.backend)),
      bindings_(bind_parameters(parts_.parameters, parts_.source, parts_.load, target_)),
      geometry_(tile_geometry(bindings_, parts_.load, target_.threads)),
      plan_(plan_export(bindings_, geometry_, parts_.options)) {
  for (const Piece& piece : bindings_.pieces) {
    check(piece.rows == piece.full_rows && piece.cols == piece.full_cols && !piece.shared_scales,
          "an export is of the whole model, not of one rank's share: " + piece.parameter->name);
  }
}

LoadReport WeightExporter::write(const std::filesystem::path& folder) {
  MemoryLedger& ledger = parts_.backend.ledger();
  ledger.restart_peak();
  const int64_t held_before = ledger.current();
  LoadReport report;
  report.predicted_peak_bytes = plan_.memory_bytes;
  report.process_rss_before_bytes = process_memory().resident_bytes;
  LoadMeter meter(ledger, parts_.load.progress, plan_.read_bytes, held_before + plan_.memory_bytes);
  ExportSession session({.backend = parts_.backend,
                         .source = parts_.source,
                         .bindings = bindings_,
                         .geometry = geometry_,
                         .plan = plan_,
                         .meter = meter,
                         .load = parts_.load},
                        folder);
  session.run();
  report.final_bytes = ledger.current() - held_before;
  report.peak_bytes = ledger.peak() - held_before;
  report.process_peak_rss_bytes = process_memory().peak_resident_bytes;
  report.read_bytes = meter.read_bytes();
  report.seconds = meter.seconds();
  report.timeline = meter.timeline();
  report.weights = weight_records(parts_.source, bindings_, session.results());
  report.missing = bindings_.absent;
  for (const SourceTensor* tensor : bindings_.unused) report.unused.push_back(tensor->name);
  return report;
}

}  // namespace octet
