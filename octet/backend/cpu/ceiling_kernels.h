// SPDX-License-Identifier: Apache-2.0
/// The kernels that measure what the processor can do at the most.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet {

struct CeilingKernels {
  /// Reads every byte once and returns something that depends on all of them.
  uint64_t (*read)(const std::byte* data, int64_t bytes);
  /// The same in an order that suits memories which give more when they are read in several places at once.
  uint64_t (*read_streams)(const std::byte* data, int64_t bytes);
  /// Copies past the caches where the instruction set can; both sides aligned to 64 bytes, `bytes` a multiple
  /// of 64.
  void (*copy)(const std::byte* from, std::byte* into, int64_t bytes);
  /// Multiply-adds in registers; returns how many floating-point operations that were (a multiply-add is
  /// two). `sink` takes a value that depends on all of them.
  int64_t (*f32_multiply)(int64_t rounds, float* sink);
  /// The same with the dot product of bfloat16 pairs; null where there is none.
  int64_t (*bf16_multiply)(int64_t rounds, float* sink);
  /// The same where each operand is read from the second cache first; null where that is no other kernel.
  int64_t (*bf16_multiply_read)(int64_t rounds, float* sink) = nullptr;
};

}  // namespace octet
