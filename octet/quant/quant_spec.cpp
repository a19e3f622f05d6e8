// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quant_spec.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

// A raw cast has no scale, so whatever tells where scales go contradicts it. Dynamic activations do not:
// their scales are the activations' own.
void find_contradictions(const QuantOptions& options, std::vector<std::string>& faults) {
  if (!is_fp8(options.fp8_format)) {
    faults.push_back("the FP8 format must be F8_E4M3 or F8_E5M2, not " +
                     std::string(to_string(options.fp8_format)));
  }
  if (!options.raw_cast) return;
  if (!options.quantizes()) {
    faults.emplace_back(
        "a raw cast was asked for, but nothing is quantized; leave out --raw-cast or ask for --quantization "
        "fp8, --fp8-lm-head or --fp8-embedding");
  }
  if (options.quantization && *options.quantization != Granularity::kChannel) {
    faults.push_back("a raw cast stores no scales, so it cannot be combined with " +
                     std::string(to_string(*options.quantization)) +
                     " scales; leave out --raw-cast or ask for --quantization fp8");
  }
  if (options.activation_scheme == ActivationScheme::kStatic) {
    faults.push_back(
        "a raw cast stores no scales, and static activations take theirs from a checkpoint with scales; "
        "leave out --raw-cast or ask for --activation-scheme dynamic or none");
  }
}

std::vector<NamePattern> compile(const std::vector<std::string>& texts, std::vector<std::string>& faults) {
  std::vector<NamePattern> patterns;
  for (const std::string& text : texts) {
    try {
      patterns.emplace_back(text);
    } catch (const ConfigError& error) {
      faults.emplace_back(error.what());
    }
  }
  return patterns;
}

std::string join(const std::vector<std::string>& lines, std::string_view separator) {
  std::string text;
  for (const std::string& line : lines) {
    if (!text.empty()) text += separator;
    text += line;
  }
  return text;
}

std::string describe(const StorageRule& rule) {
  if (!rule.quantize) return "left as it is";
  const std::string format(to_string(rule.format));
  return rule.raw_cast ? format + ", raw cast" : format + ", " + std::string(to_string(rule.granularity));
}

}  // namespace

QuantSpec::QuantSpec(QuantOptions options) : options_(std::move(options)) {
  std::vector<std::string> faults;
  find_contradictions(options_, faults);
  patterns_ = compile(options_.ignore, faults);
  if (!faults.empty()) throw ConfigError("quantization options: " + join(faults, "\nquantization options: "));
}

std::optional<StorageRule> QuantSpec::chosen(std::string_view module, WeightRole role) const {
  if (!options_.choose || role == WeightRole::kExcluded) return std::nullopt;
  const std::optional<StorageRule> choice = options_.choose(module, role);
  if (!choice) return std::nullopt;
  if (!choice->quantize) return StorageRule{};
  const std::string place = "the rule chosen for " + std::string(module) + ": ";
  if (!is_fp8(choice->format)) {
    throw ConfigError(place + "the FP8 format must be F8_E4M3 or F8_E5M2, not " +
                      std::string(to_string(choice->format)));
  }
  if (choice->raw_cast && choice->granularity != Granularity::kChannel) {
    throw ConfigError(place + "a raw cast stores no scales, so it cannot be combined with " +
                      std::string(to_string(choice->granularity)) + " scales");
  }
  return choice;
}

StorageRule QuantSpec::rule(std::string_view module, WeightRole role) const {
  if (const auto choice = chosen(module, role)) return *choice;
  const bool wanted = (role == WeightRole::kLinear && options_.quantization.has_value()) ||
                      (role == WeightRole::kLmHead && options_.fp8_lm_head) ||
                      (role == WeightRole::kEmbedding && options_.fp8_embedding);
  return wanted && !ignored(module) ? quantized() : StorageRule{};
}

StorageRule QuantSpec::merged_rule(std::span<const std::string> modules) const {
  check(!modules.empty(), "a merged matrix has members");
  const StorageRule first = rule(modules.front(), WeightRole::kLinear);
  const bool agree = std::all_of(modules.begin(), modules.end(), [&](const std::string& module) {
    return rule(module, WeightRole::kLinear) == first;
  });
  if (agree) return first;
  std::vector<std::string> lines;
  for (const std::string& module : modules) {
    lines.push_back(module + " (" + describe(rule(module, WeightRole::kLinear)) + ")");
  }
  throw ConfigError("these matrices are merged into one and must be stored alike: " + join(lines, ", ") +
                    "; let the ignore patterns name all of them or none" +
                    (options_.choose ? ", and choose one rule for them all" : ""));
}

StorageRule QuantSpec::tied_rule(std::string_view embedding, std::string_view lm_head) const {
  const auto first = chosen(embedding, WeightRole::kEmbedding);
  const auto second = chosen(lm_head, WeightRole::kLmHead);
  if (first && second && *first != *second) {
    throw ConfigError(std::string(embedding) + " (" + describe(*first) + ") and " + std::string(lm_head) +
                      " (" + describe(*second) + ") are one table in this model and must be chosen alike");
  }
  if (first || second) return first ? *first : *second;
  const bool wanted = options_.fp8_embedding || options_.fp8_lm_head;
  return wanted && !ignored(embedding) && !ignored(lm_head) ? quantized() : StorageRule{};
}

ActivationScheme QuantSpec::activation_scheme(const Backend& backend) const {
  if (options_.activation_scheme != ActivationScheme::kAuto) return options_.activation_scheme;
  return backend.native_fp8_multiply() ? ActivationScheme::kDynamic : ActivationScheme::kNone;
}

std::vector<std::string> QuantSpec::unmatched_patterns(std::span<const std::string> modules) const {
  std::vector<std::string> unmatched;
  for (const NamePattern& pattern : patterns_) {
    const bool used = std::any_of(modules.begin(), modules.end(),
                                  [&](const std::string& module) { return pattern.matches(module); });
    if (!used) unmatched.push_back(pattern.text());
  }
  return unmatched;
}

bool QuantSpec::ignored(std::string_view module) const {
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const NamePattern& pattern) { return pattern.matches(module); });
}

StorageRule QuantSpec::quantized() const {
  return {.quantize = true,
          .format = options_.fp8_format,
          .raw_cast = options_.raw_cast,
          .granularity = options_.quantization.value_or(Granularity::kChannel),
          .numerics = options_.numerics};
}

std::string_view to_string(Granularity granularity) {
  switch (granularity) {
    case Granularity::kTensor:
      return "per-tensor";
    case Granularity::kChannel:
      return "per-channel";
    case Granularity::kBlock:
      return "per-block";
  }
  return "unknown";
}

std::string_view to_string(NumericsProfile profile) {
  return profile == NumericsProfile::kVllm ? "vllm" : "compressed-tensors";
}

std::string_view to_string(ActivationScheme scheme) {
  switch (scheme) {
    case ActivationScheme::kAuto:
      return "auto";
    case ActivationScheme::kNone:
      return "none";
    case ActivationScheme::kDynamic:
      return "dynamic";
    case ActivationScheme::kStatic:
      return "static";
  }
  return "unknown";
}

}  // namespace octet
