// SPDX-License-Identifier: Apache-2.0
/// Fills the parameters that layers declared from a checkpoint, quantizing while the weights stream in: no
/// more than a few tiles are ever held beside the finished model.
#pragma once

#include <vector>

#include "octet/backend/backend.h"
#include "octet/layers/parameter.h"
#include "octet/loading/load_options.h"
#include "octet/loading/load_report.h"
#include "octet/loading/weight_source.h"

namespace octet {

/// Used once. Not thread-safe; uses the threads of the backend itself. The stored bytes do not depend on
/// their number, on the size of tiles, or on the order of tensors in the source.
class WeightLoader {
 public:
  /// The destinations of `parameters` must be empty and outlive the loader, as must `backend`.
  WeightLoader(Backend& backend, std::vector<Parameter> parameters, LoadOptions options);

  /// Reads every weight from `source`, in its order. Restarts the peak of the backend's ledger.
  ///
  /// Before memory is taken it throws FormatError with every fault that headers show: missing tensors, wrong
  /// shapes or dtypes, rows written twice or not at all, members of a merged matrix that are stored
  /// differently. Later it throws FormatError for values that cannot be stored (NaN or infinity in a weight
  /// to be quantized, a value beyond the compute dtype), DeviceError when memory is short, Interrupted when
  /// the progress callback returned false. Whatever it throws, every destination is empty again and its
  /// memory given back.
  LoadReport pull(const WeightSource& source);

 private:
  Backend& backend_;
  std::vector<Parameter> parameters_;
  LoadOptions options_;
};

}  // namespace octet
