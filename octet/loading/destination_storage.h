// SPDX-License-Identifier: Apache-2.0
/// The memory that a load fills: taken anew, that of the weights which are there, or a second copy which
/// takes their place at the end.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>

#include "octet/backend/backend.h"
#include "octet/loading/binding.h"

namespace octet {

/// Not thread-safe.
class DestinationStorage {
 public:
  virtual ~DestinationStorage() = default;

  /// Throws FormatError where `destination` cannot be had in this way, before anything is changed.
  virtual void check(const Destination& destination) const = 0;
  /// The memory of a destination, whose spec is then fixed. Throws DeviceError when there is none left;
  /// nothing is changed then.
  virtual QuantMatrixView take(const Destination& destination) = 0;
  /// All destinations are filled.
  virtual void commit() noexcept = 0;
  /// The load failed: gives back what was taken.
  virtual void release() noexcept = 0;

  /// A vector of this load, or what is stored of it; nullptr data where there is neither.
  [[nodiscard]] QuantMatrixView view_of(StoredVector& vector) const;

 protected:
  std::unordered_map<const void*, QuantMatrixView> views_;  // by target
};

[[nodiscard]] std::unique_ptr<DestinationStorage> make_storage(LoadInto into, Backend& backend);

/// A matrix and the scale of its static activations.
struct InputScale {
  StoredMatrix* matrix = nullptr;
  std::optional<float> scale;
};
/// The scale in force of each matrix among `destinations`. Throws FormatError for scales that are not above
/// 0.
[[nodiscard]] std::vector<InputScale> input_scales(Backend& backend, const DestinationStorage& storage,
                                                   std::span<const Destination> destinations,
                                                   std::string_view source);

}  // namespace octet
