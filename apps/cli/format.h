// SPDX-License-Identifier: Apache-2.0
/// Numbers and tables for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace octet::cli {

[[nodiscard]] std::string format_bytes(int64_t bytes);              ///< "640.0 MiB"
[[nodiscard]] std::string format_count(int64_t count);              ///< "1 234 567"
[[nodiscard]] std::string format_number(double value, int digits);  ///< "12.34"
[[nodiscard]] std::string format_rate(double amount,
                                      double seconds);  ///< amount per second, "-" where no time passed

/// Columns as wide as their widest cell; numbers to the right.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace octet::cli
