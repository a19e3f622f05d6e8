// SPDX-License-Identifier: Apache-2.0
/// The options that all commands which open a model have in common.
#pragma once

#include <CLI/CLI.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "apps/cli/console.h"
#include "octet/llm/llm.h"

namespace octet::cli {

/// One name on the command line and what it stands for.
template <class T>
struct Choice {
  const char* name;
  T value;
};

/// An option whose value is one name out of a table.
template <class T, size_t N>
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value, const std::array<Choice<T>, N>& table,
                        const std::string& description) {
  std::string names;
  for (const auto& choice : table) names += (names.empty() ? "" : "|") + std::string(choice.name);
  const auto choose = [&value, &table, name, names](const std::string& given) {
    for (const auto& choice : table) {
      if (given != choice.name) continue;
      value = choice.value;
      return;
    }
    throw CLI::ValidationError(name, "expected " + names + ", found \"" + given + "\"");
  };
  return app.add_option_function<std::string>(name, choose, description)->type_name(names);
}

/// A number of bytes.
CLI::Option* add_size(CLI::App& app, const std::string& name, std::optional<int64_t>& value, const std::string& description);

/// `--quiet` and `--verbose`.
void add_console_options(CLI::App& app, Console::Options& options);

/// What opens a model.
struct ModelArgs {
  std::string model;  ///< empty: the bundled one
  LlmOptions options;
  std::string load_report;  ///< empty: none
  int64_t tensor_parallel_size = 1;
  Console::Options console;

  /// Throws UsageError for contradictory options and ConfigError for what this build lacks.
  void check() const;
};

void add_model_argument(CLI::App& app, std::string& model);
/// Everything but the cache of keys and values: for commands that never run the model as well.
void add_weight_options(CLI::App& app, ModelArgs& args);
/// `--kv-cache-dtype`.
void add_cache_dtype_option(CLI::App& app, ModelArgs& args);
/// All of it.
void add_model_options(CLI::App& app, ModelArgs& args);

}  // namespace octet::cli
