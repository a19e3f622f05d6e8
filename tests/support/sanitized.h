// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace octet::test {

/// Whether this build is instrumented, and so takes its tests many times as long as another.
inline constexpr bool kSanitized = OCTET_SANITIZED;

}  // namespace octet::test
