// SPDX-License-Identifier: Apache-2.0
/// SHA-256 of the weights of a model that is cut over ranks: those that one rank would find.
#pragma once

#include <span>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/comm/communicator.h"
#include "octet/loading/weight_digest.h"

namespace octet {

/// Called on all ranks at once, each with its own parameters, in the same order. On rank 0 the digests of the
/// whole weights, put together piece by piece, some MiB at a time; elsewhere nothing.
[[nodiscard]] std::vector<WeightDigest> gathered_digests(Backend& backend,
                                                         std::span<const Parameter> parameters,
                                                         Communicator& communicator);

}  // namespace octet
