// SPDX-License-Identifier: Apache-2.0
#include "octet/loading/destination_storage.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/faults.h"

namespace octet {
namespace {

constexpr std::string_view kLedgerGroup = "weights";

StoredMatrix* matrix_of(const Destination& destination) {
  auto* const* matrix = std::get_if<StoredMatrix*>(&destination.target);
  return matrix != nullptr ? *matrix : nullptr;
}

const void* key_of(const Destination& destination) {
  return std::visit([](auto* target) { return static_cast<const void*>(target); }, destination.target);
}

QuantMatrixView view_of_tensor(TensorView tensor) {
  return {.data = tensor.data(), .dtype = tensor.dtype(), .rows = 1, .cols = tensor.cols()};
}

/// A matrix or a vector with memory.
struct Taken {
  std::variant<StoredMatrix*, StoredVector*> target;
  QuantMatrix matrix;
  Tensor tensor;

  Taken(const Destination& destination, Backend& backend) : target(destination.target) {
    const MatrixSpec& spec = destination.spec;
    if (!destination.is_vector()) {
      matrix = QuantMatrix(backend.allocator(), backend.ledger(), kLedgerGroup, spec);
      return;
    }
    tensor = Tensor(Buffer(backend.allocator(), backend.ledger(), kLedgerGroup, spec.bytes()), spec.dtype,
                    Shape{spec.cols});
  }
  [[nodiscard]] QuantMatrixView view() {
    return std::holds_alternative<StoredMatrix*>(target) ? matrix.view() : view_of_tensor(tensor.view());
  }
  void move_to_target() noexcept {
    if (auto* const* stored = std::get_if<StoredMatrix*>(&target)) {
      (*stored)->matrix = std::move(matrix);
    } else {
      std::get<StoredVector*>(target)->tensor = std::move(tensor);
    }
  }
};

/// The first load of a model.
class NewStorage final : public DestinationStorage {
 public:
  explicit NewStorage(Backend& backend) : backend_(backend) {}

  void check(const Destination& destination) const override {
    const bool empty = destination.is_vector() ? std::get<StoredVector*>(destination.target)->tensor.empty()
                                               : matrix_of(destination)->matrix.empty();
    octet::check(empty, "loading twice into " + destination.name());
  }
  QuantMatrixView take(const Destination& destination) override {
    check(destination);
    targets_.reserve(targets_.size() + 1);
    Taken taken(destination, backend_);
    QuantMatrixView& view = views_[key_of(destination)];
    view = taken.view();
    taken.move_to_target();
    targets_.push_back(destination.target);
    return view;
  }
  void commit() noexcept override { targets_.clear(); }
  void release() noexcept override {
    for (const auto& target : targets_) {
      if (auto* const* matrix = std::get_if<StoredMatrix*>(&target)) {
        (*matrix)->matrix = QuantMatrix();
      } else {
        std::get<StoredVector*>(target)->tensor = Tensor();
      }
    }
    targets_.clear();
  }

 private:
  Backend& backend_;
  std::vector<std::variant<StoredMatrix*, StoredVector*>> targets_;
};

std::string describe(const MatrixSpec& spec) {
  std::string text = std::string(to_string(spec.dtype)) + " [" + std::to_string(spec.rows) + ", " +
                     std::to_string(spec.cols) + "]";
  if (spec.scale_count() > 0) text += " with " + std::to_string(spec.scale_count()) + " scales";
  return text;
}

/// New weights over the old ones.
class SameStorage final : public DestinationStorage {
 public:
  void check(const Destination& destination) const override {
    MatrixSpec found = destination.spec;
    if (const StoredMatrix* matrix = matrix_of(destination)) {
      if (matrix->matrix.spec() == destination.spec && !matrix->matrix.empty()) return;
      found = matrix->matrix.spec();
    } else {
      const Tensor& tensor = std::get<StoredVector*>(destination.target)->tensor;
      if (!tensor.empty() && tensor.dtype() == found.dtype && tensor.shape() == Shape{found.cols}) return;
      found.dtype = tensor.dtype();
      found.cols = tensor.empty() ? 0 : tensor.shape()[0];
    }
    throw FormatError(quote(destination.name()) + " is held as " + describe(found) + " and would become " +
                      describe(destination.spec) +
                      "; a reload in place needs weights that are stored alike, reload with atomic");
  }
  QuantMatrixView take(const Destination& destination) override {
    check(destination);
    StoredMatrix* matrix = matrix_of(destination);
    if (matrix != nullptr) matrix->matrix.set_codes_finite(false);  // of the old values
    const QuantMatrixView view =
        matrix != nullptr ? matrix->matrix.view()
                          : view_of_tensor(std::get<StoredVector*>(destination.target)->tensor.view());
    return views_[key_of(destination)] = view;
  }
  void commit() noexcept override {}
  void release() noexcept override {}
};

/// New weights beside the old ones until all are there.
class SecondStorage final : public DestinationStorage {
 public:
  explicit SecondStorage(Backend& backend) : backend_(backend) {}

  void check(const Destination& /*destination*/) const override {}
  QuantMatrixView take(const Destination& destination) override {
    QuantMatrixView& view = views_[key_of(destination)];
    taken_.emplace_back(destination, backend_);
    view = taken_.back().view();
    return view;
  }
  void commit() noexcept override {
    for (Taken& taken : taken_) taken.move_to_target();
    taken_.clear();
  }
  void release() noexcept override { taken_.clear(); }

 private:
  Backend& backend_;
  std::vector<Taken> taken_;
};

}  // namespace

QuantMatrixView DestinationStorage::view_of(StoredVector& vector) const {
  const auto it = views_.find(&vector);
  if (it != views_.end()) return it->second;
  return vector.tensor.empty() ? QuantMatrixView{} : view_of_tensor(vector.tensor.view());
}

std::unique_ptr<DestinationStorage> make_storage(LoadInto into, Backend& backend) {
  switch (into) {
    case LoadInto::kEmpty:
      return std::make_unique<NewStorage>(backend);
    case LoadInto::kInPlace:
      return std::make_unique<SameStorage>();
    case LoadInto::kSecondCopy:
      return std::make_unique<SecondStorage>(backend);
  }
  throw ArgumentError("unknown kind of storage");
}

std::vector<InputScale> input_scales(Backend& backend, const DestinationStorage& storage,
                                     std::span<const Destination> destinations, std::string_view source) {
  std::vector<InputScale> result;
  Faults faults;
  for (const Destination& destination : destinations) {
    StoredMatrix* matrix = matrix_of(destination);
    if (matrix == nullptr) continue;
    std::optional<float> largest;
    for (StoredVector& scale : matrix->input_scales) {
      const QuantMatrixView one = storage.view_of(scale);
      if (one.data == nullptr) continue;
      float value = 0;
      backend.read_rows(one, 0, octet::view_of(&value, Shape{1, 1}));
      if (!std::isfinite(value) || value <= 0) {
        faults.add("tensor " + quote(scale.name) + ": expected a scale above 0, found " +
                   std::to_string(value) + "; --activation-scheme dynamic does without");
      }
      largest = std::max(largest.value_or(value), value);
    }
    result.push_back({.matrix = matrix, .scale = largest});
  }
  faults.throw_if_any<FormatError>(source);
  return result;
}

}  // namespace octet
