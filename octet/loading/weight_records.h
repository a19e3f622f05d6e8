// SPDX-License-Identifier: Apache-2.0
/// The rows of a load report: every tensor of the source with what became of it.
#pragma once

#include <span>
#include <vector>

#include "octet/loading/binding.h"
#include "octet/loading/load_report.h"
#include "octet/loading/tile_filler.h"

namespace octet {

/// `results` belong to `bindings.pieces`, one by one.
[[nodiscard]] std::vector<WeightRecord> weight_records(const WeightSource& source, const Bindings& bindings,
                                                       std::span<const TileResult> results);

}  // namespace octet
