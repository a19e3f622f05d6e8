// SPDX-License-Identifier: Apache-2.0
/// One owned piece of memory, entered in a ledger for as long as it lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "octet/core/memory_ledger.h"

namespace octet {

/// Where the bytes of buffers come from. A backend owns one; it must outlive its buffers. Thread-safe.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// Zero-filled memory aligned to at least 64 bytes. Throws DeviceError naming the size when it cannot be
  /// had.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* data, int64_t bytes) noexcept = 0;
};

/// Pages straight from the operating system (huge ones where it offers them), so that a buffer costs what it
/// holds and what is given back is really given back.
class HostAllocator final : public Allocator {
 public:
  void* allocate(int64_t bytes) override;
  void release(void* data, int64_t bytes) noexcept override;
};

/// Move-only owner. The allocator and the ledger must outlive it.
class Buffer {
 public:
  Buffer() = default;
  /// Throws DeviceError when the memory cannot be had; the ledger is then unchanged.
  Buffer(Allocator& allocator, MemoryLedger& ledger, std::string_view group, int64_t bytes);
  ~Buffer() { reset(); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer moved(static_cast<Buffer&&>(other));
    swap(moved);
    return *this;
  }

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }
  void reset() noexcept;

 private:
  void swap(Buffer& other) noexcept;

  Allocator* allocator_ = nullptr;
  MemoryLedger* ledger_ = nullptr;
  std::string group_;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace octet
