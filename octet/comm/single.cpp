// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/single.h"

#include <algorithm>

namespace octet {

void SingleCommunicator::gather_to_all(std::span<const std::byte> mine, std::span<std::byte> all) {
  std::ranges::copy(mine, all.begin());
}

void SingleCommunicator::gather_to_first(std::span<const std::byte> mine, std::span<const int64_t> /*bytes*/,
                                         std::span<std::byte> all) {
  std::ranges::copy(mine, all.begin());
}

}  // namespace octet
