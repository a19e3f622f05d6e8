// SPDX-License-Identifier: Apache-2.0
/// What a field of a config may be at most: bounds beyond every published model by orders of magnitude, so
/// that products of two of them cannot overflow.
#pragma once

#include <cstdint>
#include <limits>

namespace octet {

inline constexpr int64_t kMaxSize = int64_t{1} << 22;  ///< a width, or a number of heads
inline constexpr int64_t kMaxVocab = int64_t{1} << 26;
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxExperts = int64_t{1} << 16;
inline constexpr int64_t kMaxPositions = int64_t{1} << 30;
inline constexpr int64_t kMaxTokenId = std::numeric_limits<int32_t>::max();
inline constexpr double kMaxNumber = 1e12;

}  // namespace octet
