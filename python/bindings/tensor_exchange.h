// SPDX-License-Identifier: Apache-2.0
/// Tensors of another Python library through its table of C functions, the `__dlpack_c_exchange_api__` of
/// DLPack 1.x: what a tensor is in one call, where its attributes take one each, and no link against the
/// library.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <span>

namespace octet::python {

/// DLTensor of DLPack 1.x.
struct DlTensor {
  struct Device {
    int32_t type;
    int32_t id;
  };
  struct Type {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
  };
  static constexpr int32_t kCpu = 1;
  static constexpr uint8_t kFloat = 2;
  static constexpr uint8_t kBfloat = 4;
  static constexpr int32_t kMostDimensions = 8;  ///< of tensors that are made here

  void* data;
  Device device;
  int32_t dimensions;
  Type type;
  int64_t* shape;
  int64_t* strides;  ///< in elements
  uint64_t byte_offset;

  [[nodiscard]] uintptr_t address() const { return reinterpret_cast<uintptr_t>(data) + byte_offset; }
  [[nodiscard]] std::span<const int64_t> sizes() const { return {shape, static_cast<size_t>(dimensions)}; }
  /// On the processor, and each row of the last dimension right after the one before.
  [[nodiscard]] bool dense() const;
  [[nodiscard]] int64_t elements() const;
};

/// Nothing but the table: copies are as good. With the GIL only.
class TensorExchange {
 public:
  TensorExchange() = default;
  /// `capsule`: the table of a type of tensors, which lives as long as the process; None, or one of another
  /// major version, for none.
  explicit TensorExchange(nanobind::handle capsule);

  [[nodiscard]] bool usable() const { return api_ != nullptr; }
  /// What the tensor is, valid while `tensor` lives unchanged; false where it has no such form.
  [[nodiscard]] bool look(nanobind::handle tensor, DlTensor& into) const;
  /// A new contiguous tensor on the processor, of the type and shape of `like`, which is then what it is; not
  /// filled. Its memory goes with its last view. Throws what the library raises, std::bad_alloc without
  /// memory.
  [[nodiscard]] nanobind::object make(DlTensor& like) const;

 private:
  struct Api;
  const Api* api_ = nullptr;
};

}  // namespace octet::python
