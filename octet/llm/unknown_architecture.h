// SPDX-License-Identifier: Apache-2.0
/// What stands between a model of an unknown architecture and the known one that is nearest to it: fields of
/// its config.json, and names and shapes of its tensors. No weight is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/checkpoint/checkpoint.h"

namespace octet {

/// The first entries of a list, and how many there are.
struct CutList {
  static constexpr size_t kShown = 10;
  std::vector<Json> shown;
  int64_t count = 0;

  void add(Json entry);
};

struct ArchitectureComparison {
  std::string source;  ///< the file that describes the model
  std::string asked;   ///< what it calls itself
  std::string nearest;
  std::vector<std::string> known;
  CutList unread_fields;   ///< names of fields of the config that the nearest does not ask for
  CutList field_faults;    ///< what is missing or wrong in those that it asks for
  std::string no_weights;  ///< why the tensors could not be compared; empty: they were
  // Kinds of tensors, which differ in numbers only: {"tensors": "model.layers.*.mlp.up_proj.weight", "count":
  // of tensors, "shape"}; or "expected" and "found" in the place of "shape".
  CutList unread_tensors;   ///< the folder has them and the nearest does not ask for them
  CutList missing_tensors;  ///< the other way round
  CutList other_shapes;     ///< named as in the nearest, and of another shape

  /// For people: several lines.
  [[nodiscard]] std::string message() const;
  /// {"architecture", "supported": false, "nearest", "known", "config": {"unread", "faults"}, "tensors":
  /// {...}}; a list is {"count", "shown"}.
  [[nodiscard]] Json to_json() const;
};

/// Finds the nearest architecture by its name, by the fields that it reads and by the names of tensors.
/// `weights` is nullptr where there are none to look at, and `no_weights` says why.
[[nodiscard]] ArchitectureComparison compare_architectures(const Json& config, const std::string& source,
                                                           const std::string& asked,
                                                           const Checkpoint* weights,
                                                           const std::string& no_weights = {});

/// The refusal of such a model.
class UnsupportedModel : public ConfigError {
 public:
  explicit UnsupportedModel(ArchitectureComparison comparison)
      : ConfigError(comparison.message()), comparison_(std::move(comparison)) {}
  [[nodiscard]] const ArchitectureComparison& comparison() const { return comparison_; }

 private:
  ArchitectureComparison comparison_;
};

}  // namespace octet
