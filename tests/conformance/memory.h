// SPDX-License-Identifier: Apache-2.0
/// Where the tensors of the conformance tests live: the heap, in pieces of exactly the size asked for, so
/// that a sanitizer sees an access beyond their end.
#pragma once

#include <cstring>
#include <new>

#include "octet/core/buffer.h"
#include "octet/core/memory_ledger.h"

namespace octet::conformance {

class HeapAllocator final : public Allocator {
 public:
  void* allocate(int64_t bytes) override {
    void* data = ::operator new(static_cast<size_t>(bytes), kAlignment);
    std::memset(data, 0, static_cast<size_t>(bytes));
    return data;
  }
  void release(void* data, int64_t /*bytes*/) noexcept override { ::operator delete(data, kAlignment); }

 private:
  static constexpr std::align_val_t kAlignment{64};
};

struct Memory {
  HeapAllocator allocator;
  MemoryLedger ledger;

  [[nodiscard]] Buffer take(int64_t bytes) { return {allocator, ledger, "test", bytes}; }
};

}  // namespace octet::conformance
