// SPDX-License-Identifier: Apache-2.0
/// Writes what the loader would hold in memory to a checkpoint instead, tile by tile: never more of the model
/// in memory than the buffers of the threads.
#pragma once

#include <filesystem>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/layers/parameter.h"
#include "octet/loading/export_plan.h"
#include "octet/loading/load_options.h"
#include "octet/loading/load_report.h"
#include "octet/loading/tile_filler.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// Used once. Not thread-safe; uses the threads of the backend itself. The files do not depend on their
/// number nor on the size of tiles. Codes and scales are those which the loader would make: both go through
/// the same TileFiller.
class WeightExporter {
 public:
  struct Parts {
    Backend& backend;
    const WeightSource& source;
    std::vector<Parameter> parameters;  ///< of the whole model, uncut; nothing is put into their destinations
    LoadOptions load;
    ExportOptions options;
  };
  /// Throws what binding throws, and ConfigError for what the format cannot say. `backend` and `source` must
  /// outlive the exporter.
  explicit WeightExporter(Parts parts);

  [[nodiscard]] const ExportPlan& plan() const { return plan_; }

  /// Writes all tensors into `folder`, which exists. Throws FormatError for values that cannot be stored and
  /// files that fail, DeviceError when the disk is full or memory short, Interrupted when the progress
  /// callback returned false. What was written is removed then, but for shards that were whole.
  LoadReport write(const std::filesystem::path& folder);

 private:
  Parts parts_;
  LoadTarget target_;
  Bindings bindings_;
  TileGeometry geometry_;
  ExportPlan plan_;
};

}  // namespace octet
