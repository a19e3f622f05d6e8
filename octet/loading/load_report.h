// SPDX-License-Identifier: Apache-2.0
/// What a load did: every tensor of the checkpoint with what became of it, and the memory and time it took.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/base/json.h"
#include "octet/core/dtype.h"
#include "octet/loading/load_meter.h"
#include "octet/quant/quality.h"

namespace octet {

/// What a tensor of the checkpoint was for.
enum class TensorUse {
  kWeight,   ///< it fills a parameter
  kTwin,     ///< a second copy of a weight, compared only
  kScales,   ///< the scales of an FP8 weight
  kUnused,   ///< no parameter asks for it
  kSkipped,  ///< known to be no weight
  kSplit,    ///< a mixture's experts in one tensor: its parts have rows of their own
};
[[nodiscard]] std::string_view to_string(TensorUse use);

/// One tensor of the checkpoint.
struct WeightRecord {
  std::string name;
  std::string file;
  std::string group;
  TensorUse use = TensorUse::kUnused;
  DType source_dtype = DType::kF32;
  std::optional<DType> stored_dtype;  ///< nullopt: nothing of it is stored
  std::vector<int64_t> shape;
  std::vector<int64_t>
      scale_shape;         ///< of this rank's slice: [rows], [grid rows, grid columns], or empty: no scales
  int64_t bytes = 0;       ///< elements and scales in memory, without the padding of a layout
  int64_t elements = 0;    ///< of this rank's slice; of the whole tensor where nothing is stored
  bool quantized = false;  ///< by this load, so that `stats` hold something
  bool raw_cast = false;
  QuantizeStats stats;
  int64_t nonfinite = 0;
};

/// Two copies of one table in a checkpoint.
struct TwinDifference {
  std::string name;
  std::string twin = {};
  int64_t differing = 0;  ///< elements with different values
  double max_abs_difference = 0;
};

struct LoadReport {
  int64_t predicted_final_bytes = 0;
  int64_t predicted_peak_bytes = 0;
  int64_t final_bytes = 0;
  int64_t peak_bytes = 0;  ///< of the ledger, above what it held before
  int64_t process_peak_rss_bytes = 0;
  int64_t process_rss_before_bytes = 0;
  int64_t read_bytes = 0;
  double seconds = 0;
  std::vector<WeightRecord> weights;  ///< a row for every tensor of the checkpoint, in its order
  std::vector<std::string> missing;   ///< optional parameters that the checkpoint lacks
  std::vector<std::string> unused;
  std::vector<TwinDifference> twins;
  std::vector<MemorySample> timeline;

  /// The weights that this load quantized.
  [[nodiscard]] std::vector<WeightQuality> quality() const;
  /// The form of `--load-report`. A ratio is null where nothing was lost or measured.
  [[nodiscard]] Json to_json() const;
};

}  // namespace octet
