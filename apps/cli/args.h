// SPDX-License-Identifier: Apache-2.0
/// The options that all commands which open a model have in common.
#pragma once

#include <CLI/CLI.hpp>

#include <array>
#include <charconv>
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
CLI::Option* add_choice(CLI::App& app, const std::string& name, T& value,
                        const std::array<Choice<T>, N>& table, const std::string& description) {
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

/// The numbers that an option takes, ends included.
template <class T>
struct NumberRange {
  T min;
  T max;
};

[[nodiscard]] std::string range_text(NumberRange<int> range);
[[nodiscard]] std::string range_text(NumberRange<int64_t> range);
[[nodiscard]] std::string range_text(NumberRange<uint64_t> range);
[[nodiscard]] std::string range_text(NumberRange<double> range);

/// An option whose value is a number: nothing but a number, in its range, and never NaN. `Target` is T or
/// optional<T>.
template <class T, class Target>
CLI::Option* add_number(CLI::App& app, const std::string& names, Target& value, NumberRange<T> range,
                        const std::string& description) {
  const std::string name = names.substr(names.rfind(',') + 1);  // the long one
  const auto read = [&value, name, range](const std::string& given) {
    T number{};
    const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), number);
    if (error != std::errc() || end != given.data() + given.size() ||
        !(number >= range.min && number <= range.max)) {
      throw CLI::ValidationError(name,
                                 "expected a number " + range_text(range) + ", found \"" + given + "\"");
    }
    value = number;
  };
  return app.add_option_function<std::string>(names, read, description)->type_name("N");
}

/// More tokens or sequences than anyone has.
inline constexpr int64_t kManyTokens = int64_t{1} << 31;
inline constexpr int64_t kManySequences = 65536;

/// A number of bytes.
CLI::Option* add_size(CLI::App& app, const std::string& name, std::optional<int64_t>& value,
                      const std::string& description);

/// `--quiet` and `--verbose`.
void add_console_options(CLI::App& app, Console::Options& options);

/// What opens a model.
struct ModelArgs {
  std::string model;  ///< empty: the bundled one
  LlmOptions options;
  std::string load_report;  ///< empty: none
  bool digest = false;      ///< tell the SHA-256 of every weight
  int64_t tensor_parallel_size = 1;
  Console::Options console;

  /// Throws UsageError for contradictory options.
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
