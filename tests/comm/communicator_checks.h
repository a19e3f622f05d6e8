// SPDX-License-Identifier: Apache-2.0
/// What every communicator does, whatever carries its bytes.
#pragma once

#include "octet/comm/communicator.h"

namespace octet::test {

/// To be called on all ranks at once. Throws Error saying what differs.
void check_communicator(Communicator& communicator);

}  // namespace octet::test
