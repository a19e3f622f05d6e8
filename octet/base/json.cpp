// SPDX-License-Identifier: Apache-2.0
#include "octet/base/json.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>

#include "octet/base/error.h"
#include "octet/base/faults.h"

template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace octet {
namespace {

constexpr size_t kMaxDepth = 64;
/// A value costs some tens of bytes in memory and two in a file: more than these is an attack, not a header.
constexpr int64_t kMaxValues = 4'000'000;

/// Walks the text and lets the handler below see how far the parser has come.
class CountingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

/// Builds the value from the parser's events. The library's own builder looks each key up among all keys
/// before it, which takes minutes for a header of 10^5 tensors, and lets the last of two equal keys win.
class Builder {
 public:
  Builder(std::string_view text, std::string_view source)
      : text_(text), source_(source), seen_(text.data()) {}

  Json parse() {
    if (const size_t nul = text_.find('\0');
        nul != std::string_view::npos) {  // the library takes NUL for the end
      seen_ = text_.data() + nul;
      fail("a NUL byte");
    }
    const char* end = text_.data() + text_.size();
    Json::sax_parse(CountingIterator(text_.data(), &seen_), CountingIterator(end, &seen_), this,
                    nlohmann::detail::input_format_t::json, true);
    return std::move(root_);
  }

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(int64_t value) { return put(value); }
  bool number_unsigned(uint64_t value) { return put(value); }
  bool number_float(double value, const std::string& /*text*/) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }
  bool start_object(size_t /*size*/) { return open(Json::object()); }
  bool end_object() { return close(); }
  bool start_array(size_t /*size*/) { return open(Json::array()); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (!open_.back().keys.insert(name).second)
      fail("the key " + quote(name) + " occurs twice in one object");
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) {
    std::string_view what =
        error.what();  // "[json.exception...] parse error at line 1, column 2: syntax error ..."
    if (const size_t colon = what.find(": "); colon != std::string_view::npos) what.remove_prefix(colon + 2);
    std::string detail = quote(what, 200);
    fail(detail.substr(1, detail.size() - 2));
  }

 private:
  struct Open {
    Json* value;
    std::string key;
    std::unordered_set<std::string> keys;
  };

  Json* add(Json&& value) {
    if (++values_ > kMaxValues) fail("more than " + std::to_string(kMaxValues) + " values");
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Open& parent = open_.back();
    if (parent.value->is_array())
      return &parent.value->get_ref<Json::array_t&>().emplace_back(std::move(value));
    return &parent.value->get_ref<Json::object_t&>()
                .emplace_back(std::move(parent.key), std::move(value))
                .second;
  }

  bool put(Json&& value) {
    add(std::move(value));
    return true;
  }

  bool open(Json&& value) {
    if (open_.size() >= kMaxDepth) fail("nested deeper than " + std::to_string(kMaxDepth));
    open_.push_back({add(std::move(value)), {}, {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  [[noreturn]] void fail(const std::string& detail) const {
    const auto lines = std::count(text_.data(), seen_, '\n');
    throw FormatError(std::string(source_) + ": not valid JSON at byte " +
                      std::to_string(seen_ - text_.data()) + " (line " + std::to_string(lines + 1) +
                      "): " + detail);
  }

  std::string_view text_;
  std::string_view source_;
  const char* seen_;
  Json root_;
  std::vector<Open> open_;
  int64_t values_ = 0;
};

std::string describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list of " + std::to_string(value.size());
  if (value.is_string()) return "the string " + quote(value.get_ref<const std::string&>(), 60);
  return value.dump();
}

/// An integer that int64_t holds.
std::optional<int64_t> as_integer(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  return std::nullopt;
}

std::string range(int64_t min, int64_t max) {
  if (max == INT64_MAX) return min == INT64_MIN ? "" : " of at least " + std::to_string(min);
  return " from " + std::to_string(min) + " to " + std::to_string(max);
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  return Builder(text, source).parse();
}

JsonFields::JsonFields(const Json& object, std::string source) : object_(object), source_(std::move(source)) {
  if (!object.is_object()) faults_.push_back(source_ + ": expected an object, found " + describe(object));
}

const Json* JsonFields::find(std::string_view name) const {
  if (!object_.is_object()) return nullptr;
  asked_.emplace(name);
  const auto it = object_.find(std::string(name));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::has(std::string_view name) const {
  return find(name) != nullptr;
}

int64_t JsonFields::integer(std::string_view name, int64_t fallback, int64_t min, int64_t max) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  const auto number = as_integer(*value);
  if (number && *number >= min && *number <= max) return *number;
  fault(name, "expected an integer" + range(min, max) + ", found " + describe(*value));
  return fallback;
}

int64_t JsonFields::required_integer(std::string_view name, int64_t min, int64_t max) {
  if (!has(name)) fault(name, "expected an integer" + range(min, max) + ", but the field is missing");
  return integer(name, min, min, max);
}

double JsonFields::number(std::string_view name, double fallback, double min, double max) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= min && number <= max) return number;
  }
  fault(name, "expected a number from " + Json(min).dump() + " to " + Json(max).dump() + ", found " +
                  describe(*value));
  return fallback;
}

bool JsonFields::boolean(std::string_view name, bool fallback) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fault(name, "expected true or false, found " + describe(*value));
  return fallback;
}

std::string JsonFields::string(std::string_view name, std::string fallback) {
  const Json* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  fault(name, "expected a string, found " + describe(*value));
  return fallback;
}

std::vector<int64_t> JsonFields::integers(std::string_view name, int64_t min, int64_t max) {
  const Json* value = find(name);
  if (value == nullptr) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<int64_t> numbers;
  for (const Json& item : list) {
    const auto number = as_integer(item);
    if (!number || *number < min || *number > max) {
      fault(name, "expected an integer" + range(min, max) + " or a list of such, found " + describe(item));
      return {};
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::vector<std::string> JsonFields::strings(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr) return {};
  std::vector<std::string> items;
  for (const Json& item : value->is_array() ? *value : Json::array({nullptr})) {
    if (!item.is_string()) {
      fault(name, "expected a list of strings, found " + describe(value->is_array() ? item : *value));
      return {};
    }
    items.push_back(item.get<std::string>());
  }
  return items;
}

const Json* JsonFields::object(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr || value->is_object()) return value;
  fault(name, "expected an object, found " + describe(*value));
  return nullptr;
}

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> names;
  if (!object_.is_object()) return names;
  for (const auto& field : object_.items()) {
    if (!asked_.contains(field.key())) names.push_back(field.key());
  }
  return names;
}

void JsonFields::fault(std::string_view name, std::string_view expected_and_found) {
  std::string text = source_ + ": " + std::string(name) + ": " + std::string(expected_and_found);
  if (std::find(faults_.begin(), faults_.end(), text) == faults_.end()) faults_.push_back(std::move(text));
}

void JsonFields::absorb(const JsonFields& nested) {
  faults_.insert(faults_.end(), nested.faults_.begin(), nested.faults_.end());
}

void JsonFields::finish() const {
  if (faults_.empty()) return;
  std::string text;
  for (const std::string& fault : faults_) text += (text.empty() ? "" : "\n") + fault;
  throw ConfigError(text);
}

}  // namespace octet
