// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/input.h"

#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <span>

#include "apps/cli/command.h"
#include "apps/cli/signals.h"
#include "octet/base/file_reader.h"

namespace octet::cli {
namespace {

constexpr size_t kInputLimit = size_t{1} << 30;

/// Some bytes of standard input; 0 at its end.
size_t read_some(std::span<char> into) {
  while (true) {
    const ssize_t count = ::read(STDIN_FILENO, into.data(), into.size());
    check_stop();
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR)
      throw DeviceError(std::string("standard input: cannot read: ") + std::strerror(errno));
  }
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::optional<double> unit_of(std::string_view unit) {
  if (unit.empty() || unit == "B" || unit == "b") return 1;
  constexpr std::string_view kPrefixes = "KMGT";
  const size_t power =
      kPrefixes.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
  if (power == std::string_view::npos) return std::nullopt;
  const std::string_view rest = unit.substr(1);
  if (rest == "B" || rest == "b") return std::pow(1000.0, static_cast<double>(power + 1));
  if (rest.empty() || rest == "iB" || rest == "ib" || rest == "i")
    return std::pow(1024.0, static_cast<double>(power + 1));
  return std::nullopt;
}

}  // namespace

std::string read_standard_input() {
  std::string text;
  std::array<char, 65536> piece{};
  while (const size_t count = read_some(piece)) {
    text.append(piece.data(), count);
    if (text.size() > kInputLimit)
      throw ArgumentError("standard input: expected at most 1 GiB of text, found more");
  }
  return text;
}

std::optional<std::string> read_line() {
  std::string line;
  char byte = 0;
  while (read_some({&byte, 1}) == 1) {
    if (byte == '\n') return line;
    line.push_back(byte);
    if (line.size() > kInputLimit)
      throw ArgumentError("standard input: expected lines of at most 1 GiB, found more");
  }
  return line.empty() ? std::nullopt : std::optional(std::move(line));
}

std::string read_file_or_input(const std::string& path) {
  return path == "-" ? read_standard_input() : read_text_file(path, kInputLimit);
}

std::vector<int32_t> parse_ids(std::string_view text, std::string_view option) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view part = trimmed(text.substr(0, comma));
    int32_t id = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), id);
    if (error != std::errc() || end != part.data() + part.size() || id < 0) {
      throw UsageError(std::string(option) +
                       ": expected token ids separated by commas, as in 1,2,3; found \"" + std::string(part) +
                       "\"");
    }
    ids.push_back(id);
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

std::optional<int64_t> parse_size(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  const auto unit = unit_of(trimmed({end, static_cast<size_t>(text.data() + text.size() - end)}));
  if (!unit || !(value >= 0)) return std::nullopt;
  const double bytes = value * *unit;
  if (!(bytes < 0x1p62)) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

}  // namespace octet::cli
