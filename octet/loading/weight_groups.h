// SPDX-License-Identifier: Apache-2.0
/// The groups in which plans and reports sum weights up for people. For show only: nothing is decided by
/// them.
#pragma once

#include <array>
#include <string_view>

namespace octet {

inline constexpr std::array<std::string_view, 7> kWeightGroups = {
    "embed_tokens", "attention", "mlp", "experts", "norms", "lm_head", "other"};

/// The group of a weight of the checkpoint or of a layer's matrix, by its name.
[[nodiscard]] std::string_view weight_group(std::string_view name);

}  // namespace octet
