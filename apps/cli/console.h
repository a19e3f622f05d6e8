// SPDX-License-Identifier: Apache-2.0
/// Results to standard output, everything else to standard error.
#pragma once

#include <string>
#include <string_view>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet::cli {

/// Nobody reads standard output any more: the work ends quietly.
class ClosedPipe : public Error {
 public:
  ClosedPipe() : Error("standard output was closed") {}
};

/// Writes and flushes. Throws ClosedPipe when the reader has gone, DeviceError when the disk is full.
void write_out(std::string_view text);
/// One JSON value on one line.
void write_json(const Json& json);

/// Messages for people, on standard error. Failing to write them is no error.
class Console {
 public:
  struct Options {
    bool quiet = false;  ///< errors only
    bool verbose = false;
  };
  explicit Console(Options options);

  [[nodiscard]] bool is_quiet() const { return options_.quiet; }
  [[nodiscard]] bool is_verbose() const { return options_.verbose; }
  /// Standard error is a terminal: a line may be overwritten.
  [[nodiscard]] bool is_terminal() const { return terminal_; }

  void note(std::string_view line) const;    ///< unless quiet
  void detail(std::string_view line) const;  ///< only when verbose
  void warn(std::string_view text) const;    ///< unless quiet
  void show(std::string_view text) const;    ///< as it is, unless quiet

 private:
  Options options_;
  bool terminal_ = false;
};

/// "octet: error: ...", in red on a terminal that wants colours.
void print_error(std::string_view message);

}  // namespace octet::cli
