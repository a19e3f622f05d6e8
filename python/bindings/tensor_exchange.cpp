// SPDX-License-Identifier: Apache-2.0
#include "python/bindings/tensor_exchange.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace octet::python {

namespace nb = nanobind;

namespace {

constexpr uint32_t kMajor = 1;
constexpr char kCapsule[] = "dlpack_exchange_api";

struct Version {
  uint32_t major;
  uint32_t minor;
};

/// DLManagedTensorVersioned.
struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor* self);
  uint64_t flags;
  DlTensor tensor;
};

/// A new contiguous tensor, its elements right behind it.
struct alignas(64) OwnedTensor {
  ManagedTensor managed;
  std::array<int64_t, DlTensor::kMostDimensions> shape;
  std::array<int64_t, DlTensor::kMostDimensions> strides;

  static OwnedTensor* make(const DlTensor& like) {
    const size_t bytes = static_cast<size_t>(like.elements()) * like.type.bits / 8;
    const size_t rounded = (bytes + alignof(OwnedTensor) - 1) / alignof(OwnedTensor) * alignof(OwnedTensor);
    void* memory = std::aligned_alloc(alignof(OwnedTensor), sizeof(OwnedTensor) + rounded);
    if (memory == nullptr) throw std::bad_alloc();
    auto* made = new (memory) OwnedTensor;
    made->managed = {.version = {kMajor, 0},
                     .context = nullptr,
                     .deleter = [](ManagedTensor* self) { std::free(self); },
                     .flags = 0,
                     .tensor = like};
    DlTensor& tensor = made->managed.tensor;
    tensor.data = made + 1;
    tensor.byte_offset = 0;
    tensor.shape = made->shape.data();
    tensor.strides = made->strides.data();
    int64_t stride = 1;
    for (int32_t d = like.dimensions; d-- > 0;) {
      tensor.shape[d] = like.shape[d];
      tensor.strides[d] = stride;
      stride *= like.shape[d];
    }
    return made;
  }
};

}  // namespace

/// DLPackExchangeAPI. What is not called here has no type.
struct TensorExchange::Api {
  Version version;
  const Api* older;
  void (*allocate)();
  void (*from_object)();
  int (*to_object)(ManagedTensor* tensor, void** object);
  int (*look)(void* object, DlTensor* out);
  void (*current_work_stream)();
};

bool DlTensor::dense() const {
  if (device.type != kCpu) return false;
  int64_t expected = 1;
  for (int32_t d = dimensions; d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

int64_t DlTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : sizes()) product *= size;
  return product;
}

TensorExchange::TensorExchange(nb::handle capsule) {
  if (PyCapsule_IsValid(capsule.ptr(), kCapsule) == 0) return;
  const auto* api = static_cast<const Api*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  while (api != nullptr && api->version.major != kMajor) api = api->older;
  if (api != nullptr && api->look != nullptr) api_ = api;
}

bool TensorExchange::look(nb::handle tensor, DlTensor& into) const {
  if (api_->look(tensor.ptr(), &into) == 0) return true;
  PyErr_Clear();
  return false;
}

nb::object TensorExchange::make(DlTensor& like) const {
  OwnedTensor* made = OwnedTensor::make(like);
  like = made->managed.tensor;
  void* object = nullptr;
  if (api_->to_object(&made->managed, &object) != 0) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(object));
}

}  // namespace octet::python
