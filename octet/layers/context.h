// SPDX-License-Identifier: Apache-2.0
/// What every layer is built with, and what a step hands to it.
#pragma once

#include <cstdint>
#include <span>

#include "octet/backend/backend.h"
#include "octet/comm/communicator.h"
#include "octet/core/arena.h"
#include "octet/quant/quant_spec.h"

namespace octet {

/// Given at construction; backend, communicator and spec must outlive the layers.
struct LayerContext {
  Backend& backend;
  /// The ranks over which the model is cut: each layer holds the part of this one.
  Communicator& communicator;
  const QuantSpec& quant_spec;
  DType compute_dtype = DType::kBF16;  ///< `--dtype`: F32, F16 or BF16

  [[nodiscard]] Precision precision() const {
    return compute_dtype == DType::kBF16 ? Precision::kBFloat16 : Precision::kFloat32;
  }
};

/// One step's tokens, of one sequence or many. Plain views over the caller's arrays.
struct Batch {
  std::span<const int32_t> token_ids;  ///< [T]
  std::span<const int32_t> positions;  ///< [T] place of each token in its sequence
  std::span<const int32_t> slots;      ///< [T] where its keys and values go
  BatchLayout layout;

  [[nodiscard]] int64_t tokens() const { return static_cast<int64_t>(token_ids.size()); }
};

}  // namespace octet
