// SPDX-License-Identifier: Apache-2.0
/// Texts and ids from the command line, a file or standard input.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octet::cli {

/// All of standard input. Throws Interrupted on Ctrl-C, ArgumentError beyond 1 GiB.
[[nodiscard]] std::string read_standard_input();
/// One line without its end; nothing at the end of the input. Throws Interrupted on Ctrl-C.
[[nodiscard]] std::optional<std::string> read_line();
/// A file, or standard input for "-".
[[nodiscard]] std::string read_file_or_input(const std::string& path);

/// "1,2,3", blanks allowed. Throws UsageError naming `option` and the part that is no id.
[[nodiscard]] std::vector<int32_t> parse_ids(std::string_view text, std::string_view option);
/// Bytes from "2GiB", "512M", "1e9", "4096": K, M, G, T are powers of 1024 with or without iB, of 1000 with
/// B.
[[nodiscard]] std::optional<int64_t> parse_size(std::string_view text);

}  // namespace octet::cli
