// SPDX-License-Identifier: Apache-2.0
/// The memory of one step: activations are taken from it in order and all given back at once. Allocates
/// nothing itself.
#pragma once

#include <cstdint>

#include "octet/core/buffer.h"
#include "octet/core/tensor.h"

namespace octet {

/// What one take() of an arena may use beyond the bytes asked for, by rounding up: for those who plan its
/// size.
inline constexpr int64_t kAlignmentSlack = 128;

/// Not thread-safe: one step uses one arena.
class Arena {
 public:
  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  /// Uninitialized memory aligned to 64 bytes, valid until the arena is rewound past it.
  /// Throws ArgumentError when the arena is too small: its size is planned, so that is a fault of the plan.
  [[nodiscard]] std::byte* take(int64_t bytes);
  [[nodiscard]] TensorView tensor(DType dtype, Shape shape);

  [[nodiscard]] int64_t used() const { return used_; }
  [[nodiscard]] int64_t capacity() const { return buffer_.bytes(); }
  /// Gives back everything taken since `mark`, a former value of used().
  void rewind(int64_t mark) { used_ = mark; }

 private:
  Buffer buffer_;
  int64_t used_ = 0;
};

/// Gives back on leaving the scope what was taken in it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.used()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  int64_t mark_;
};

}  // namespace octet
