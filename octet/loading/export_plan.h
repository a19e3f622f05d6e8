// SPDX-License-Identifier: Apache-2.0
/// What an export writes, decided from parameters and headers alone: every tensor with its name, dtype, shape
/// and file, and the entry in config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/checkpoint/checkpoint_writer.h"
#include "octet/loading/binding.h"
#include "octet/loading/tile_geometry.h"
#include "octet/quant/export_format.h"

namespace octet {

struct ExportOptions {
  ExportFormat format = ExportFormat::kCompressedTensors;
  int64_t max_shard_bytes = 5'000'000'000;
  ActivationScheme activations =
      ActivationScheme::kDynamic;  ///< what the file says: kNone, kDynamic or kStatic
  /// Checkpoint names of the vocabulary tables, without ".weight".
  std::string embedding = "model.embed_tokens";
  std::string lm_head = "lm_head";
  bool tied = false;
};

/// One weight of the checkpoint on its way to a file. Indices are into ExportPlan::tensors.
struct ExportedPiece {
  size_t weight = 0;
  std::optional<size_t> scales = std::nullopt;
  ScaleSharing sharing = ScaleSharing::kNone;
  int64_t scale_count = 0;  ///< that are made, which may be more than are written (a scale spread to rows)
};

/// A tensor that no parameter asks for: it goes over as it is.
struct ExportedCopy {
  const SourceTensor* source = nullptr;
  size_t tensor = 0;
};

struct ExportPlan {
  std::vector<TensorDeclaration> tensors;
  std::vector<ExportedPiece> pieces;  ///< one for each piece of the bindings
  std::vector<ExportedCopy> copies;
  ShardPlan shards;
  ExportedQuantization quantization;
  int64_t bytes_before = 0;  ///< of the tensors in the source that are written
  int64_t read_bytes = 0;
  int64_t tile_bytes = 0;    ///< of the largest tile as it is written
  int64_t memory_bytes = 0;  ///< of buffers, at the most
};

/// Throws ConfigError when the format cannot say what the options ask for, with every reason.
[[nodiscard]] ExportPlan plan_export(const Bindings& bindings, const TileGeometry& geometry,
                                     const ExportOptions& options);

}  // namespace octet
