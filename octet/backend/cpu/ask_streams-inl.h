// SPDX-License-Identifier: Apache-2.0
/// Asking for lines of memory in several places at once. Where one place after another is read, Intel's
/// processors and memories give as little as two thirds of what they give to a few places in turn.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet::OCTET_ISA {
namespace {

/// What is read in order is asked for block by block, in as many places of the next block as a group has
/// lines.
inline constexpr int64_t kAskedBlock = 16384;
inline constexpr int kAskedPlaces = 4;

/// For each 256 bytes at `group` that are read in order, this asks for four lines of the block behind the one
/// in which they lie: one in each quarter, so that all have been asked for when the block has been read.
[[gnu::always_inline]] inline void ask_in_streams(const std::byte* group) {
  constexpr int64_t kLine = 64;
  const auto within = static_cast<int64_t>(reinterpret_cast<uintptr_t>(group) % kAskedBlock);
  const std::byte* first = group + (kAskedBlock - within) + within / kAskedPlaces / kLine * kLine;
#pragma GCC unroll 4
  for (int place = 0; place < kAskedPlaces; ++place)
    prefetch_near(first + place * (kAskedBlock / kAskedPlaces));
}

}  // namespace
}  // namespace octet::OCTET_ISA
