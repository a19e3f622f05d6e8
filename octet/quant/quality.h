// SPDX-License-Identifier: Apache-2.0
/// What quantizing cost: the signal-to-noise ratio and the fraction of zeroed values, for one weight or for a
/// group, and the warning about a raw cast that underflows.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

/// One quantized weight (or one group of them).
struct WeightQuality {
  std::string name;
  std::string group;  ///< "attention", "mlp", ...: what `quality_by_group` sums by
  bool raw_cast = false;
  QuantizeStats stats;
};

/// 10 log10(signal / noise) in dB; nullopt where nothing was lost (no noise) or nothing was measured.
[[nodiscard]] std::optional<double> sqnr_db(const QuantizeStats& stats);
/// Values that were not 0 and became 0, of all values; 0 where nothing was measured.
[[nodiscard]] double zero_fraction(const QuantizeStats& stats);

/// One entry for each group, in order of first appearance: `name` and `group` are the group's name.
[[nodiscard]] std::vector<WeightQuality> quality_by_group(std::span<const WeightQuality> weights);

/// A raw cast below this ratio or above this fraction underflows.
inline constexpr double kUnderflowSqnrDb = 25.0;
inline constexpr double kUnderflowZeroFraction = 0.05;
[[nodiscard]] bool underflows(const WeightQuality& weight);

/// For people: how many raw casts underflow, the worst of them by name, and the option that cures it.
/// nullopt when none does.
[[nodiscard]] std::optional<std::string> underflow_warning(std::span<const WeightQuality> weights);

}  // namespace octet
