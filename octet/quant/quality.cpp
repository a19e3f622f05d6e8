// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quality.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

namespace octet {
namespace {

constexpr size_t kNamedTensors = 5;

double sqnr_or_infinity(const WeightQuality& weight) {
  return sqnr_db(weight.stats).value_or(std::numeric_limits<double>::infinity());
}

}  // namespace

std::optional<double> sqnr_db(const QuantizeStats& stats) {
  if (stats.elements == 0 || !(stats.noise > 0)) return std::nullopt;
  const double ratio = 10.0 * std::log10(stats.signal / stats.noise);
  return std::isfinite(ratio) ? std::optional(ratio) : std::nullopt;
}

double zero_fraction(const QuantizeStats& stats) {
  return stats.elements == 0 ? 0.0 : static_cast<double>(stats.zeroed) / static_cast<double>(stats.elements);
}

std::vector<WeightQuality> quality_by_group(std::span<const WeightQuality> weights) {
  std::vector<WeightQuality> groups;
  for (const WeightQuality& weight : weights) {
    auto it =
        std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.group == weight.group; });
    if (it == groups.end()) {
      groups.push_back(
          {.name = weight.group, .group = weight.group, .raw_cast = weight.raw_cast, .stats = {}});
      it = groups.end() - 1;
    }
    it->raw_cast = it->raw_cast || weight.raw_cast;
    it->stats.add(weight.stats);
  }
  return groups;
}

bool underflows(const WeightQuality& weight) {
  return weight.raw_cast && (sqnr_or_infinity(weight) < kUnderflowSqnrDb ||
                             zero_fraction(weight.stats) > kUnderflowZeroFraction);
}

std::optional<std::string> underflow_warning(std::span<const WeightQuality> weights) {
  std::vector<const WeightQuality*> worst;
  for (const WeightQuality& weight : weights) {
    if (underflows(weight)) worst.push_back(&weight);
  }
  if (worst.empty()) return std::nullopt;
  std::sort(worst.begin(), worst.end(), [](const WeightQuality* a, const WeightQuality* b) {
    return std::pair(sqnr_or_infinity(*a), a) < std::pair(sqnr_or_infinity(*b), b);
  });
  std::ostringstream text;
  text.precision(1);
  text << std::fixed << "the raw cast underflows in " << worst.size() << " of " << weights.size()
       << " quantized weights (below " << kUnderflowSqnrDb << " dB or more than "
       << 100 * kUnderflowZeroFraction << " % zeroed); worst:";
  for (size_t i = 0; i < std::min(kNamedTensors, worst.size()); ++i) {
    text << (i == 0 ? " " : ", ") << worst[i]->name << " (" << sqnr_or_infinity(*worst[i]) << " dB, "
         << 100 * zero_fraction(worst[i]->stats) << " % zeroed)";
  }
  text << "; leave out --raw-cast to store a scale for each row";
  return text.str();
}

}  // namespace octet
