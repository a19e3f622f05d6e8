// SPDX-License-Identifier: Apache-2.0
/// JSON with the strictness that files and requests from strangers need, over nlohmann::json.
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

extern template class nlohmann::basic_json<nlohmann::ordered_map>;  // compiled once, in json.cpp

namespace octet {

using Json = nlohmann::ordered_json;

/// Parses one JSON value. `source` (a file name) opens every message.
/// Throws FormatError on syntax errors, trailing bytes, duplicate keys, invalid UTF-8, and nesting deeper
/// than 64.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view source);

/// Reads typed fields of one object and collects every fault, so that all wrong fields are reported together.
/// An absent or null field is the default; a field of the wrong type or out of range is a fault and yields
/// the default.
class JsonFields {
 public:
  /// `object` must outlive this. `source` names the file (and object) in messages.
  JsonFields(const Json& object, std::string source);

  [[nodiscard]] const Json& json() const { return object_; }
  [[nodiscard]] bool has(std::string_view name) const;  ///< present and not null
  [[nodiscard]] int64_t integer(std::string_view name, int64_t fallback, int64_t min, int64_t max);
  [[nodiscard]] int64_t required_integer(std::string_view name, int64_t min, int64_t max);
  [[nodiscard]] double number(std::string_view name, double fallback, double min, double max);
  [[nodiscard]] bool boolean(std::string_view name, bool fallback);
  [[nodiscard]] std::string string(std::string_view name, std::string fallback);
  /// A number or a list of numbers, as `eos_token_id` is.
  [[nodiscard]] std::vector<int64_t> integers(std::string_view name, int64_t min, int64_t max);
  /// A list of strings, as `layer_types` is; empty when absent or null.
  [[nodiscard]] std::vector<std::string> strings(std::string_view name);
  /// The object under `name`, or nullptr when absent or null.
  [[nodiscard]] const Json* object(std::string_view name);

  /// Names of the fields, in the order of the file, that nothing above has asked for.
  [[nodiscard]] std::vector<std::string> unread() const;

  /// Adds a fault of the caller's own: "config.json: hidden_size: expected ..., found ...".
  void fault(std::string_view name, std::string_view expected_and_found);
  /// Takes over the faults of a reader of a nested object.
  void absorb(const JsonFields& nested);
  [[nodiscard]] const std::vector<std::string>& faults() const { return faults_; }
  /// Throws ConfigError with all faults, if there are any.
  void finish() const;

 private:
  const Json* find(std::string_view name) const;

  const Json& object_;
  std::string source_;
  std::vector<std::string> faults_;
  mutable std::set<std::string, std::less<>> asked_;
};

}  // namespace octet
