// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace octet::cli {
namespace {

constexpr std::string_view kRed = "\033[31m";
constexpr std::string_view kYellow = "\033[33m";

bool wants_colours() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return isatty(STDERR_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') && !dumb;
}

std::string coloured(std::string_view text, std::string_view colour) {
  if (!wants_colours()) return std::string(text);
  return std::string(colour) + std::string(text) + "\033[0m";
}

/// The error of the system call, or 0. Goes on after signals: a stop is noticed elsewhere.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

void write_line(std::string_view text) {
  (void)write_all(STDERR_FILENO, std::string(text) + "\n");
}

}  // namespace

void write_out(std::string_view text) {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == EPIPE) throw ClosedPipe();
  if (error != 0) throw DeviceError(std::string("standard output: cannot write: ") + std::strerror(error));
}

void write_json(const Json& json) {
  // Names of files and tensors come from outside and need not be UTF-8.
  write_out(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Console::Console(Options options) : options_(options), terminal_(isatty(STDERR_FILENO) == 1) {}

void Console::note(std::string_view line) const {
  if (!options_.quiet) write_line(line);
}

void Console::detail(std::string_view line) const {
  if (options_.verbose) note(line);
}

void Console::warn(std::string_view text) const {
  if (!options_.quiet) write_line(coloured("octet: warning: ", kYellow) + std::string(text));
}

void Console::show(std::string_view text) const {
  if (!options_.quiet) (void)write_all(STDERR_FILENO, text);
}

void print_error(std::string_view message) {
  write_line(coloured("octet: error: ", kRed) + std::string(message));
}

}  // namespace octet::cli
