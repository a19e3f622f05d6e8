// SPDX-License-Identifier: Apache-2.0
/// Fills the parameters that layers declared from a checkpoint, quantizing while the weights stream in: no
/// more than a few tiles are ever held beside the finished model.
#pragma once

#include <memory>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/layers/parameter.h"
#include "octet/loading/load_options.h"
#include "octet/loading/load_report.h"
#include "octet/loading/tensor_piece.h"
#include "octet/loading/weight_source.h"

namespace octet {

class PushSession;

/// One load at a time. Not thread-safe but for `push`; uses the threads of the backend itself. The stored
/// bytes do not depend on their number, on the size of tiles, or on the order of tensors in the source.
class WeightLoader {
 public:
  /// The destinations of `parameters` must outlive the loader, as must `backend`; they must be empty unless
  /// `options` ask for a reload.
  WeightLoader(Backend& backend, std::vector<Parameter> parameters, LoadOptions options);
  ~WeightLoader();

  /// Reads every weight from `source`, in its order. Restarts the peak of the backend's ledger.
  ///
  /// Before memory is taken it throws FormatError with every fault that headers show: missing tensors, wrong
  /// shapes or dtypes, rows written twice or not at all, members of a merged matrix that are stored
  /// differently. Later it throws FormatError for values that cannot be stored (NaN or infinity in a weight
  /// to be quantized, a value beyond the compute dtype), DeviceError when memory is short, Interrupted when
  /// the progress callback returned false. Whatever it throws, every destination is empty again and its
  /// memory given back.
  ///
  /// With `LoadOptions::into` other than kEmpty it is a reload: the destinations hold weights already. In
  /// place, an error that comes after the first byte was read leaves them half old, half new, until another
  /// reload succeeds; with a second copy they are the old ones. With peers, whatever one rank throws all
  /// throw.
  LoadReport pull(const WeightSource& source);

  /// Begins a load into which the caller hands tensors. `announced` (names, dtypes and shapes; may be empty)
  /// is what will come: where FP8 weights are among it nothing of them needs to wait for its scales, and
  /// tensors of one merged matrix may differ in dtype.
  void begin(std::vector<SourceTensor> announced = {});
  /// Takes a piece of a tensor: from any thread, in any order, of any size. A weight is stored when its
  /// scales are known; what must wait for them is copied, at most `LoadOptions::max_pending_bytes` in all.
  /// Under ranks every rank is handed every piece.
  ///
  /// Throws ArgumentError for ranges or bytes that do not fit, for a piece that contradicts earlier ones or
  /// comes after the end, and for one that would have to wait and finds no room; FormatError where a tensor
  /// cannot fill its parameter; DeviceError without memory. A piece that was refused is as if it had never
  /// come. Values that come twice, and names that nobody asks for, are reported by `finish`.
  void push(const TensorPiece& piece);
  /// Ends the load when all pushes have returned. Throws FormatError with everything that is missing, came
  /// twice, or cannot be stored, and gives the memory back as `pull` does.
  LoadReport finish();
  /// Whether the last load has taken memory or written into weights that were there; until then a reload that
  /// fails in place has changed nothing.
  [[nodiscard]] bool began_writing() const;
  /// Ends the load without its end: gives the memory back.
  void abandon();

 private:
  Backend& backend_;
  std::vector<Parameter> parameters_;
  LoadOptions options_;
  std::vector<Parameter> offered_;  // those of a partial load
  std::unique_ptr<PushSession> session_;
  bool began_writing_ = false;
};

}  // namespace octet
