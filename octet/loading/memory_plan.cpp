// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/memory_plan.h"

#include <map>

#include "octet/loading/weight_groups.h"

namespace octet {

MemoryPlan plan_memory(std::span<const Parameter> parameters, const WeightSource& source,
                       const LoadOptions& options, const LoadTarget& target) {
  const Bindings bindings = bind_parameters(parameters, source, options, target);
  return plan_memory(bindings, load_geometry(bindings, source, options, target.threads));
}

MemoryPlan plan_memory(const Bindings& bindings, const TileGeometry& geometry) {
  MemoryPlan plan;
  std::map<std::string_view, PlanGroup> groups;
  for (const Destination& destination : bindings.destinations) {
    if (destination.pieces.empty()) continue;
    PlanGroup& group = groups[weight_group(destination.name())];
    group.bytes_after += destination.spec.bytes();
    plan.final_bytes += destination.spec.bytes();
    for (const size_t index : destination.pieces) {
      const Piece& piece = bindings.pieces[index];
      group.elements += piece.rows * piece.cols;
      group.bytes_before += piece.bytes() + (piece.scales != nullptr ? piece.scales->bytes() : 0);
      plan.read_bytes += planned_read_bytes(piece, destination.is_vector(), geometry);
    }
  }
  for (const std::string_view name : kWeightGroups) {
    const auto it = groups.find(name);
    if (it == groups.end()) continue;
    it->second.name = name;
    plan.groups.push_back(it->second);
  }
  plan.loading_bytes = bindings.pieces.empty() ? 0 : geometry.total_bytes();
  plan.peak_bytes = plan.final_bytes + plan.loading_bytes;
  return plan;
}

}  // namespace octet
