// SPDX-License-Identifier: Apache-2.0
/// Ctrl-C: the first asks the running work to stop, the second kills the process.
#pragma once

namespace octet::cli {

/// Catches SIGINT and SIGTERM and ignores SIGPIPE and SIGXFSZ, so that a closed pipe and a file beyond the
/// user's limit are errors of the write.
void install_signal_handlers();

/// Whether a stop was asked for. Cheap.
[[nodiscard]] bool stop_requested();
/// Throws Interrupted if so.
void check_stop();
/// Forgets the request and waits for the next one (a conversation goes on after a stopped answer).
void forget_stop();

}  // namespace octet::cli
