// SPDX-License-Identifier: Apache-2.0
/// What is stored how: from the user's options to a rule for each weight of a model, by module name.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/core/dtype.h"
#include "octet/quant/name_pattern.h"

namespace octet {

/// Which elements share one scale.
enum class Granularity {
  kTensor,   ///< a matrix of the checkpoint (spread to its rows in memory)
  kChannel,  ///< an output row
  kBlock,    ///< 128 x 128, ragged at the edges
};
inline constexpr int64_t kScaleBlock = 128;

/// Whose arithmetic is matched to the bit for the elements that share a scale.
enum class NumericsProfile { kVllm, kCompressedTensors };

/// How activations enter a multiply with an FP8 weight.
enum class ActivationScheme {
  kAuto,     ///< kDynamic where the device multiplies FP8 natively, kNone elsewhere
  kNone,     ///< in the model's dtype
  kDynamic,  ///< FP8, one scale per token (per token and 128 columns with block weights)
  kStatic,   ///< FP8, the scale given in the checkpoint
};

enum class WeightRole {
  kLinear,  ///< a linear layer or one expert's matrix
  kLmHead,
  kEmbedding,
  kExcluded,  ///< router, shared expert's gate, learned positions: never quantized
};

/// How one matrix is stored.
struct StorageRule {
  bool quantize = false;  ///< false: as it is in the file
  DType format = DType::kF8E4M3;
  bool raw_cast = false;
  Granularity granularity = Granularity::kChannel;
  NumericsProfile numerics = NumericsProfile::kVllm;

  [[nodiscard]] bool operator==(const StorageRule&) const = default;
};

/// A program's own choice for one module (the checkpoint's name without ".weight"); nullopt: as the options
/// say. It goes before `ignore`, is asked several times for the same module and from several threads, and
/// must always answer alike. Never asked for WeightRole::kExcluded.
using ModuleChoice = std::function<std::optional<StorageRule>(std::string_view module, WeightRole role)>;

/// What the user asked for.
struct QuantOptions {
  std::optional<Granularity> quantization = Granularity::kChannel;  ///< of linear layers; nullopt: leave them
  DType fp8_format = DType::kF8E4M3;
  bool raw_cast = false;  ///< FP8 without scales
  bool fp8_lm_head = false;
  bool fp8_embedding = false;
  std::vector<std::string>
      ignore;  ///< unmerged module names: exact, glob (* ?), or "re:" and a regular expression
  NumericsProfile numerics = NumericsProfile::kVllm;
  ActivationScheme activation_scheme = ActivationScheme::kAuto;
  ModuleChoice choose = {};  ///< for programs that choose module by module; empty: the options above decide

  /// Whether they ask for any weight in FP8.
  [[nodiscard]] bool quantizes() const {
    return quantization.has_value() || fp8_lm_head || fp8_embedding || choose;
  }
};

/// Immutable; safe from any thread.
class QuantSpec {
 public:
  /// Throws ConfigError listing every contradiction among the options (a raw cast with blocks, a bad pattern,
  /// ...).
  explicit QuantSpec(QuantOptions options);

  [[nodiscard]] const QuantOptions& options() const { return options_; }
  /// `module` is the checkpoint's name without ".weight": "model.layers.0.self_attn.q_proj", "lm_head".
  /// This and the next two throw ConfigError naming the module for a choice that contradicts itself.
  [[nodiscard]] StorageRule rule(std::string_view module, WeightRole role) const;
  /// The common rule of the members of a merged matrix. Throws ConfigError naming those which disagree.
  [[nodiscard]] StorageRule merged_rule(std::span<const std::string> modules) const;
  /// One table for both uses: quantized when either use asks for it and neither name is ignored. A choice
  /// made for either name is for the table; throws ConfigError where the two names are chosen differently.
  [[nodiscard]] StorageRule tied_rule(std::string_view embedding, std::string_view lm_head) const;
  /// The scheme in force on `backend` for a matrix that is stored in FP8, by this spec or in the file
  /// already: never kAuto. Matrices that are not in FP8 take activations as they are.
  [[nodiscard]] ActivationScheme activation_scheme(const Backend& backend) const;
  /// Patterns of `ignore` that matched none of the modules asked about so far in `modules`.
  [[nodiscard]] std::vector<std::string> unmatched_patterns(std::span<const std::string> modules) const;

 private:
  [[nodiscard]] bool ignored(std::string_view module) const;
  [[nodiscard]] std::optional<StorageRule> chosen(std::string_view module, WeightRole role) const;
  [[nodiscard]] StorageRule quantized() const;  ///< the rule of a matrix that is stored in FP8

  QuantOptions options_;
  std::vector<NamePattern> patterns_;
};

[[nodiscard]] std::string_view to_string(Granularity granularity);
[[nodiscard]] std::string_view to_string(NumericsProfile profile);
[[nodiscard]] std::string_view to_string(ActivationScheme scheme);

}  // namespace octet
