// SPDX-License-Identifier: Apache-2.0
/// The memory of a model before a weight of it is read: what it will hold, the most while loading, and by
/// group.
///
/// What an option would save is the difference of two plans, made from the parameters of the same model built
/// with and without it: `saved_bytes(plan_memory(without, ...), plan_memory(with, ...))`.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/loading/binding.h"
#include "octet/loading/load_options.h"
#include "octet/loading/tile_geometry.h"

namespace octet {

struct PlanGroup {
  std::string name;
  int64_t elements = 0;
  int64_t bytes_before = 0;  ///< in the files
  int64_t bytes_after = 0;   ///< in memory, padding and scales included
};

struct MemoryPlan {
  int64_t final_bytes = 0;        ///< exact
  int64_t loading_bytes = 0;      ///< buffers, given back at the end
  int64_t peak_bytes = 0;         ///< both
  int64_t read_bytes = 0;         ///< from the files, those read twice counted twice
  std::vector<PlanGroup> groups;  ///< in the order of kWeightGroups, none empty
};

/// Throws what `bind_parameters` throws.
[[nodiscard]] MemoryPlan plan_memory(std::span<const Parameter> parameters, const WeightSource& source,
                                     const LoadOptions& options, const LoadTarget& target);
/// The same from bindings that are there already.
[[nodiscard]] MemoryPlan plan_memory(const Bindings& bindings, const TileGeometry& geometry);

[[nodiscard]] inline int64_t saved_bytes(const MemoryPlan& without, const MemoryPlan& with) {
  return without.final_bytes - with.final_bytes;
}

}  // namespace octet
