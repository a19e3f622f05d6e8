// SPDX-License-Identifier: Apache-2.0
#include "python/bindings/tensor_exchange.h"

#include <cstdlib>
#include <new>

namespace octet::python {

namespace nb = nanobind;

namespace {

struct Version {
  uint32_t major;
  uint32_t minor;
};

/// DLManagedTensorVersioned.
struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor*);
  uint64_t flags;
  DlTensor tensor;
};

constexpr uint32_t kMajor = 1;

/// A tensor with its memory right behind it.
struct alignas(64) Owned {
  ManagedTensor managed;
  int64_t shape[8];
  int64_t strides[8];

  static Owned* make(const DlTensor& like) {
    const auto bytes = static_cast<size_t>(like.elements() * like.type.bits / 8);
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, sizeof(Owned) + (bytes + 63) / 64 * 64));
    if (memory == nullptr) throw std::bad_alloc();
    auto* made = new (memory) Owned;
    made->managed = {.version = {1, 0}, .context = nullptr, .deleter = [](ManagedTensor* tensor) { std::free(tensor); }, .flags = 0, .tensor = like};
    DlTensor& tensor = made->managed.tensor;
    tensor.data = memory + sizeof(Owned);
    tensor.byte_offset = 0;
    tensor.shape = made->shape;
    tensor.strides = made->strides;
    int64_t stride = 1;
    for (int32_t d = like.dimensions; d-- > 0;) {
      made->shape[d] = like.shape[d];
      made->strides[d] = stride;
      stride *= like.shape[d];
    }
    return made;
  }
};

}  // namespace

/// DLPackExchangeAPI.
struct TensorExchange::Api {
  Version version;
  const Api* older;
  int (*allocate)(DlTensor* like, ManagedTensor** out, void* context,
                  void (*error)(void* context, const char* kind, const char* message));
  int (*from_object)(void* object, ManagedTensor** out);
  int (*to_object)(ManagedTensor* tensor, void** object);
  int (*look)(void* object, DlTensor* out);
  int (*current_work_stream)(int32_t device_type, int32_t device_id, void** stream);
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
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return;
  const auto* api = static_cast<const Api*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (api != nullptr && api->version.major != kMajor) api = api->older;
  if (api != nullptr && api->look != nullptr) api_ = api;
}

bool TensorExchange::look(nb::handle tensor, DlTensor& into) const {
  if (api_->look(tensor.ptr(), &into) == 0) return true;
  PyErr_Clear();
  return false;
}

nb::object TensorExchange::make(DlTensor& like) const {
  Owned* owned = Owned::make(like);
  like = owned->managed.tensor;
  void* object = nullptr;
  if (api_->to_object(&owned->managed, &object) != 0) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(object));
}

}  // namespace octet::python
