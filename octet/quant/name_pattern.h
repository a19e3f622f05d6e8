// SPDX-License-Identifier: Apache-2.0
/// A pattern over module names as `--ignore` and the ignore lists of checkpoints write it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace octet {

/// Three kinds: "re:" and an ECMAScript regular expression that must match from the first character on (the
/// end is free, as with Python's re.match); a glob, where * stands for any run of characters (dots too) and ?
/// for one; else the name itself. A pattern that fits "<module>.weight" fits the module as well. Immutable;
/// safe from any thread.
class NamePattern {
 public:
  /// Throws ConfigError naming the pattern when it is empty, longer than 1024 bytes or no valid regular
  /// expression.
  explicit NamePattern(std::string text);

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool matches(std::string_view module) const;

 private:
  struct Regex;  // apart, as <regex> costs every file that includes it half a second
  [[nodiscard]] bool matches_name(std::string_view name) const;

  std::string text_;
  std::shared_ptr<const Regex> regex_;  // none where the text is a glob or a name
};

}  // namespace octet
