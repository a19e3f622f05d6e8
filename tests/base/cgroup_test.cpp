// SPDX-License-Identifier: Apache-2.0
#include "octet/base/cgroup.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace octet {
namespace {

CgroupLimits limits_of(const TempFolder& folder) {
  return read_cgroup_limits(folder.path() / "cgroup", folder.path() / "mount");
}

TEST(Cgroup, WithoutOneThereIsNoLimit) {
  const TempFolder folder;
  EXPECT_FALSE(limits_of(folder).cpus.has_value());
  EXPECT_FALSE(limits_of(folder).memory_bytes.has_value());
}

TEST(Cgroup, OfVersionTwoTakesTheTightestOfAllAncestors) {
  const TempFolder folder;
  folder.write("cgroup", "0::/a/b\n");
  folder.write("mount/cpu.max", "max 100000\n");
  folder.write("mount/a/cpu.max", "150000 100000\n");
  folder.write("mount/a/b/cpu.max", "800000 100000\n");
  folder.write("mount/a/memory.max", "1000\n");
  folder.write("mount/a/memory.current", "400\n");
  folder.write("mount/a/b/memory.max", "max\n");
  folder.write("mount/a/b/memory.current", "300\n");
  EXPECT_DOUBLE_EQ(limits_of(folder).cpus.value(), 1.5);
  EXPECT_EQ(limits_of(folder).memory_bytes, 600);
}

TEST(Cgroup, PagesOfFilesCountAsFree) {
  const TempFolder folder;
  folder.write("cgroup", "0::/\n");
  folder.write("mount/memory.max", "1000\n");
  folder.write("mount/memory.current", "900\n");
  folder.write("mount/memory.stat", "anon 300\ninactive_file 500\nactive_file 100\n");
  EXPECT_EQ(limits_of(folder).memory_bytes, 700);
}

TEST(Cgroup, OfVersionOneIsReadToo) {
  const TempFolder folder;
  folder.write("cgroup", "5:cpu,cpuacct:/host/path\n4:memory:/host/path\n1:name=systemd:/x\n");
  folder.write("mount/cpu/cpu.cfs_quota_us", "250000\n");
  folder.write("mount/cpu/cpu.cfs_period_us", "100000\n");
  folder.write("mount/memory/memory.limit_in_bytes", "5000\n");
  folder.write("mount/memory/memory.usage_in_bytes", "6000\n");
  folder.write("mount/memory/memory.stat", "total_inactive_file 500\n");
  EXPECT_DOUBLE_EQ(limits_of(folder).cpus.value(), 2.5);
  EXPECT_EQ(limits_of(folder).memory_bytes, 0);
}

TEST(Cgroup, OfVersionOneWithAQuotaOfMinusOneIsNoLimit) {
  const TempFolder folder;
  folder.write("cgroup", "5:cpu:/\n");
  folder.write("mount/cpu/cpu.cfs_quota_us", "-1\n");
  folder.write("mount/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(limits_of(folder).cpus.has_value());
}

TEST(Cgroup, AQuotaOfHalfACoreLeavesOneThread) {
  EXPECT_EQ(cores_within(0.5, 8), 1);
  EXPECT_EQ(cores_within(0.01, 1), 1);
  EXPECT_EQ(cores_within(1.5, 8), 2);
  EXPECT_EQ(cores_within(64.0, 8), 8);
  EXPECT_EQ(cores_within(std::nullopt, 8), 8);
}

TEST(Cgroup, NonsenseIsNoLimit) {
  const TempFolder folder;
  folder.write("cgroup", "what is this\n0::/../..\n::\n");
  folder.write("mount/cpu.max", "lots\n");
  folder.write("mount/memory.max", "-");
  EXPECT_FALSE(limits_of(folder).cpus.has_value());
  EXPECT_FALSE(limits_of(folder).memory_bytes.has_value());
}

}  // namespace
}  // namespace octet
