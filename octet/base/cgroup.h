// SPDX-License-Identifier: Apache-2.0
/// What the control group of this process (a container, a batch job) lets it take.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace octet {

struct CgroupLimits {
  std::optional<double> cpus;  ///< CPU quota over its period; empty = no limit
  std::optional<int64_t>
      memory_bytes;  ///< limit less what is held now and could not be reclaimed; empty = no limit
};

/// Reads cgroup v2 and v1. The tightest limit of the process's group and its ancestors counts; what cannot be
/// read is no limit. `membership` is /proc/self/cgroup, `mount` is /sys/fs/cgroup (other places are for
/// tests).
[[nodiscard]] CgroupLimits read_cgroup_limits(const std::filesystem::path& membership,
                                              const std::filesystem::path& mount);

/// How many of `cores` a quota lets run at once: rounded up, at least one.
[[nodiscard]] int cores_within(std::optional<double> quota, int cores);

}  // namespace octet
