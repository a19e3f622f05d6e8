// SPDX-License-Identifier: Apache-2.0
#include "octet/base/cgroup.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace octet {
namespace {

namespace fs = std::filesystem;

std::optional<int64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

/// Pages of files, which the kernel takes back when memory is needed.
int64_t reclaimable(const fs::path& stat, std::string_view prefix) {
  std::ifstream file(stat);
  std::string name;
  int64_t value = 0;
  int64_t sum = 0;
  while (file >> name >> value) {
    if (name == std::string(prefix) + "inactive_file" || name == std::string(prefix) + "active_file")
      sum += value;
  }
  return sum;
}

template <class T>
void tighten(std::optional<T>& limit, T value) {
  limit = limit ? std::min(*limit, value) : value;
}

void read_cpu(const fs::path& folder, CgroupLimits& limits) {
  std::ifstream file(folder / "cpu.max");  // v2: "200000 100000" or "max 100000"
  double quota = 0;
  double period = 0;
  if (!(file >> quota >> period)) {
    quota = static_cast<double>(read_number(folder / "cpu.cfs_quota_us").value_or(-1));  // v1: -1 is no limit
    period = static_cast<double>(read_number(folder / "cpu.cfs_period_us").value_or(0));
  }
  if (quota > 0 && period > 0) tighten(limits.cpus, quota / period);
}

void read_memory(const fs::path& folder, CgroupLimits& limits) {
  const auto tighten_to = [&](std::optional<int64_t> limit, std::optional<int64_t> used,
                              std::string_view prefix) {
    if (!limit || !used) return;
    const int64_t held = std::max<int64_t>(0, *used - reclaimable(folder / "memory.stat", prefix));
    tighten(limits.memory_bytes, std::max<int64_t>(0, *limit - held));
  };
  tighten_to(read_number(folder / "memory.max"), read_number(folder / "memory.current"), "");
  tighten_to(read_number(folder / "memory.limit_in_bytes"), read_number(folder / "memory.usage_in_bytes"),
             "total_");
}

/// The folders of one group and its ancestors. In a container the path is often the host's and not to be
/// seen: then the mount itself is the container's own group.
std::vector<fs::path> lineage(const fs::path& mount, const std::string& group) {
  std::vector<fs::path> folders = {mount};
  fs::path folder = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    if (part == "..") break;
    folder /= part;
    folders.push_back(folder);
  }
  return folders;
}

bool names(const std::string& controllers, std::string_view wanted) {
  return ("," + controllers + ",").find("," + std::string(wanted) + ",") != std::string::npos;
}

}  // namespace

CgroupLimits read_cgroup_limits(const fs::path& membership, const fs::path& mount) {
  CgroupLimits limits;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // "0::/group" (v2) or "4:cpu,cpuacct:/group" (v1)
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    const bool unified = controllers.empty();
    if (unified || names(controllers, "cpu")) {
      for (const fs::path& folder : lineage(unified ? mount : mount / "cpu", group)) read_cpu(folder, limits);
    }
    if (unified || names(controllers, "memory")) {
      for (const fs::path& folder : lineage(unified ? mount : mount / "memory", group))
        read_memory(folder, limits);
    }
  }
  return limits;
}

int cores_within(std::optional<double> quota, int cores) {
  if (!quota || *quota >= cores) return cores;
  return std::max(1, static_cast<int>(std::ceil(*quota)));
}

}  // namespace octet
