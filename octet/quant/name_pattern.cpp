// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/name_pattern.h"

#include <regex>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr std::string_view kRegexPrefix = "re:";
constexpr size_t kLongestPattern = 1024;

// Greedy with one point of return: the last star. Linear memory, no recursion.
bool glob_matches(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t after_star = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after_star = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++after_star;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

struct NamePattern::Regex {
  std::regex value;
};

NamePattern::NamePattern(std::string text) : text_(std::move(text)) {
  if (text_.empty())
    throw ConfigError("an ignore pattern is empty; give a module name, a glob or re:EXPRESSION");
  if (text_.size() > kLongestPattern) {
    throw ConfigError("ignore pattern \"" + text_.substr(0, 40) + "...\" has " +
                      std::to_string(text_.size()) + " bytes; at most " + std::to_string(kLongestPattern) +
                      " are accepted");
  }
  if (!std::string_view(text_).starts_with(kRegexPrefix)) return;
  try {
    const std::string expression = text_.substr(kRegexPrefix.size());
    regex_ = std::make_shared<const Regex>(
        Regex{std::regex(expression, std::regex::ECMAScript | std::regex::optimize)});
  } catch (const std::regex_error& error) {
    throw ConfigError("ignore pattern \"" + text_ + "\" is not a valid regular expression: " + error.what());
  }
}

bool NamePattern::matches(std::string_view module) const {
  return matches_name(module) || matches_name(std::string(module) + ".weight");
}

bool NamePattern::matches_name(std::string_view name) const {
  if (!regex_) return glob_matches(text_, name);
  return std::regex_search(name.begin(), name.end(), regex_->value, std::regex_constants::match_continuous);
}

}  // namespace octet
