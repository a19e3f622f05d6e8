// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/signals.h"

#include <csignal>

#include "octet/base/error.h"

namespace octet::cli {
namespace {

// The one thing a signal handler may touch.
volatile std::sig_atomic_t stop_flag = 0;

extern "C" void request_stop(int /*signal*/) {
  stop_flag = 1;
}

void catch_once(int signal) {
  struct sigaction action = {};
  action.sa_handler = request_stop;
  // Back to the default after one: the second Ctrl-C kills. No SA_RESTART: a read that waits for input
  // returns.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  catch_once(SIGINT);
  catch_once(SIGTERM);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool stop_requested() {
  return stop_flag != 0;
}

void check_stop() {
  if (stop_requested()) throw Interrupted("stopped on request");
}

void forget_stop() {
  stop_flag = 0;
  catch_once(SIGINT);
}

}  // namespace octet::cli
