// SPDX-License-Identifier: Apache-2.0
#include "octet/core/buffer.h"

#include <sys/mman.h>

#include <utility>

#include "octet/base/checked_math.h"
#include "octet/base/out_of_memory.h"

namespace octet {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

void* HostAllocator::allocate(int64_t bytes) {
  check(bytes > 0, "an allocation needs at least one byte");
  void* data =
      ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    throw OutOfMemoryError("out of memory: " + std::to_string(bytes) + " bytes cannot be had");
  // Advice only, for the whole huge pages inside: a kernel without them serves small pages.
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (last > first) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  return data;
}

void HostAllocator::release(void* data, int64_t bytes) noexcept {
  ::munmap(data, static_cast<size_t>(bytes));
}

Buffer::Buffer(Allocator& allocator, MemoryLedger& ledger, std::string_view group, int64_t bytes)
    : allocator_(&allocator), ledger_(&ledger), group_(group), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = static_cast<std::byte*>(allocator.allocate(bytes));
  ledger.add(group_, bytes);
}

void Buffer::reset() noexcept {
  if (data_ != nullptr) {
    ledger_->remove(group_, bytes_);
    allocator_->release(data_, bytes_);
  }
  data_ = nullptr;
  bytes_ = 0;
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(allocator_, other.allocator_);
  std::swap(ledger_, other.ledger_);
  std::swap(group_, other.group_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
}

}  // namespace octet
