// SPDX-License-Identifier: Apache-2.0
/// SHA-256 of every weight as it is held, so that a load can be compared with a reload or with another
/// machine: the same on every backend, for every layout and number of threads.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/layers/parameter.h"

namespace octet {

struct WeightDigest {
  std::string name;    ///< of the tensor in the checkpoint
  std::string sha256;  ///< 64 hexadecimal digits
};

/// As much of a weight is read at a time for its digest.
inline constexpr int64_t kDigestBytesAtOnce = int64_t{1} << 20;

/// Collects bytes and tells their SHA-256. Throws DeviceError where the library refuses its service.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(std::span<const std::byte> bytes);
  /// Of all bytes so far, in hexadecimal digits. Nothing may be added afterwards.
  [[nodiscard]] std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One for each parameter that is stored, in their order: of its elements in the stored dtype row by row,
/// then of its scales as little-endian float32 (one for each row, or the grid row by row; none of a raw
/// cast). A member of a merged matrix is taken by itself. Of a parameter that is cut over ranks it is the
/// digest of this rank's slice alone.
[[nodiscard]] std::vector<WeightDigest> weight_digests(Backend& backend,
                                                       std::span<const Parameter> parameters);
/// SHA-256 over the lines "<sha256>  <name>\n" in the order of the names.
[[nodiscard]] std::string model_digest(std::vector<WeightDigest> digests);

}  // namespace octet
