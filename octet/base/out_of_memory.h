// SPDX-License-Identifier: Apache-2.0
/// The one kind of DeviceError that programs answer otherwise than by giving up: they ask for less.
#pragma once

#include "octet/base/error.h"

namespace octet {

/// Memory that cannot be had, or that a plan says would not suffice.
class OutOfMemoryError : public DeviceError {
 public:
  using DeviceError::DeviceError;
};

}  // namespace octet
