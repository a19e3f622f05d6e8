// SPDX-License-Identifier: Apache-2.0
#include "octet/base/cpu_features.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "octet/base/cgroup.h"
#include "octet/base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

namespace octet {
namespace {

constexpr std::array<std::string_view, 5> kIsaNames = {"portable", "avx2", "avx512", "avx512_bf16",
                                                       "amx_bf16"};

#if defined(__x86_64__)

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf l;
  if (__get_cpuid_count(leaf, subleaf, &l.eax, &l.ebx, &l.ecx, &l.edx) == 0) return {};
  return l;
}

bool all(uint32_t value, uint32_t bits) {
  return (value & bits) == bits;
}

/// Which register states the operating system saves; 0 when it does not say.
uint32_t saved_state(const Leaf& one) {
  if (!all(one.ecx, 1U << 27)) return 0;  // OSXSAVE
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

/// Linux hands out the tiles' 8 KiB of state to processes that ask for it.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_isa(CpuIsa isa) {
  const Leaf one = cpuid(1, 0);
  const Leaf seven = cpuid(7, 0);
  const uint32_t saved = saved_state(one);
  const bool avx2 = all(saved, 0x06) && all(one.ecx, 1U << 12 | 1U << 28 | 1U << 29)  // FMA, AVX, F16C
                    && all(seven.ebx, 1U << 5);
  const bool avx512 = avx2 && all(saved, 0xe6) && all(seven.ebx, 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31);
  const bool avx512_bf16 = avx512 && all(seven.ecx, 1U << 1) && all(cpuid(7, 1).eax, 1U << 5);
  switch (isa) {
    case CpuIsa::kPortable:
      return true;
    case CpuIsa::kAvx2:
      return avx2;
    case CpuIsa::kAvx512:
      return avx512;
    case CpuIsa::kAvx512Bf16:
      return avx512_bf16;
    case CpuIsa::kAmxBf16:
      return avx512_bf16 && all(saved, 0x60000) && all(seven.edx, 1U << 22 | 1U << 24) && may_use_tiles();
  }
  return false;
}

bool made_by_intel() {
  const Leaf zero = cpuid(0, 0);
  return zero.ebx == 0x756e6547U && zero.edx == 0x49656e69U && zero.ecx == 0x6c65746eU;  // "GenuineIntel"
}

std::string brand() {
  std::array<char, 49> text{};
  for (uint32_t i = 0; i < 3; ++i) {
    const Leaf l = cpuid(0x80000002U + i, 0);
    std::memcpy(text.data() + 16 * i, &l, sizeof(l));
  }
  return text.data();
}

#else

bool has_isa(CpuIsa isa) {
  return isa == CpuIsa::kPortable;
}
bool made_by_intel() {
  return false;
}
std::string brand() {
  return {};
}

#endif

int affinity_cores() {
  for (int size = 1024; size <= (1 << 20); size *= 2) {  // grow until the kernel's mask fits
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    const int count = ::sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return static_cast<int>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

CgroupLimits own_limits() {
  return read_cgroup_limits("/proc/self/cgroup", "/sys/fs/cgroup");
}

}  // namespace

std::string_view to_string(CpuIsa isa) {
  return kIsaNames.at(static_cast<size_t>(isa));
}

CpuIsa parse_cpu_isa(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < kIsaNames.size(); ++i) {
    if (kIsaNames[i] == name) return static_cast<CpuIsa>(i);
    known += (i > 0 ? ", " : "") + std::string(kIsaNames[i]);
  }
  throw ConfigError("unknown instruction set '" + std::string(name) + "': expected one of " + known);
}

std::vector<CpuIsa> supported_isas() {
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa :
       {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Bf16, CpuIsa::kAmxBf16}) {
    if (has_isa(isa)) isas.push_back(isa);
  }
  return isas;
}

std::string cpu_name() {
  std::string name = brand();
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "unknown" : name;
}

bool slow_subnormals() {
  return made_by_intel();
}

bool reads_faster_in_streams() {
  return made_by_intel();
}

int usable_cores() {
  return cores_within(own_limits().cpus, affinity_cores());
}

long long available_memory_bytes() {
  long long available = static_cast<long long>(::sysconf(_SC_AVPHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  std::ifstream file("/proc/meminfo");
  std::string name;
  long long kib = 0;
  for (std::string unit; file >> name >> kib && std::getline(file, unit);) {
    if (name == "MemAvailable:") available = kib * 1024;
  }
  if (const auto limit = own_limits().memory_bytes) available = std::min<long long>(available, *limit);
  return available;
}

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace octet
