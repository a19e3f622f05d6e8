// SPDX-License-Identifier: Apache-2.0
/// Typed exceptions, thrown at the edges (open, parse, bind, allocate) and mapped to exit codes in apps/.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace octet {

/// Base of all errors that Octet throws on purpose. The message says what, where (file, tensor or field),
/// what was expected and what was found.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file that is missing, cut short or does not follow its format.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A model, configuration or option that cannot be run as asked.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A caller of the library passed something that its declaration forbids.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// The machine cannot do it: out of memory, no such device, a failing disk.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The user asked to stop (Ctrl-C, a cancelled load).
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// What a value of errno means: "No space left on device".
[[nodiscard]] std::string system_reason(int error);

/// Throws ArgumentError naming the place of the call when `condition` is false.
/// For contracts between programmers, not for user input.
void check(bool condition, std::string_view message,
           std::source_location where = std::source_location::current());

}  // namespace octet
