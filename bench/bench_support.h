// SPDX-License-Identifier: Apache-2.0
/// What the benchmark programs share: repeatable numbers, times, medians of paired ratios.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "octet/backend/cpu/ceilings.h"

namespace octet::bench {

/// SplitMix64.
[[nodiscard]] uint64_t next_random(uint64_t& state);
/// Fills with FP8 codes that are all finite in E4M3 and E5M2.
void fill_codes(std::span<std::byte> bytes, uint64_t seed);
/// Numbers like a bell, mean 0 and deviation 1.
void fill_bell(std::span<float> values, uint64_t seed);

[[nodiscard]] double median(std::vector<double> values);

/// One thread is timed by its own running time, so that other work on the machine does not count.
[[nodiscard]] Stopwatch clock_for(int threads);
/// What the times of a table are, for its heading.
[[nodiscard]] const char* describe(Stopwatch clock);

/// The exit code of a program: that of `run`, or 1 and the message on standard error where it throws.
[[nodiscard]] int exit_code_of(const std::function<int()>& run);

}  // namespace octet::bench
