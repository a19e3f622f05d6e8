// SPDX-License-Identifier: Apache-2.0
/// What main.cpp knows of a command: its options, and how it runs.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>

#include "octet/base/error.h"

namespace octet::cli {

/// The command line itself is wrong: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

struct ModelArgs;

class Command {
 public:
  Command() = default;
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  /// Declares arguments and options; `app` fills members of this command when it parses.
  virtual void add_options(CLI::App& app) = 0;
  /// Throws what main.cpp maps to exit codes.
  virtual void run() = 0;

  /// The options of a command that runs a model, which may be cut over several processes; nullptr for others.
  virtual ModelArgs* model_args() { return nullptr; }
  /// What the processes other than rank 0 do while rank 0 runs: unless overridden, they load their part of
  /// the model and follow.
  virtual void follow();
};

std::unique_ptr<Command> make_generate();
std::unique_ptr<Command> make_chat();
std::unique_ptr<Command> make_inspect();
std::unique_ptr<Command> make_tokenize();
std::unique_ptr<Command> make_logits();
std::unique_ptr<Command> make_evaluate();
std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_quantize();

}  // namespace octet::cli
