// SPDX-License-Identifier: Apache-2.0
/// What this machine's processor can do and how much of it the process may use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// Instruction sets for which there are kernels, ascending.
enum class CpuIsa {
  kPortable,    ///< "portable": plain C++
  kAvx2,        ///< "avx2": AVX2, FMA, F16C
  kAvx512,      ///< "avx512": AVX-512 F, BW, VL, DQ
  kAvx512Bf16,  ///< "avx512_bf16": the same with BF16 and VBMI
  kAmxBf16,     ///< "amx_bf16": the same with tiles and their products of bfloat16
};

[[nodiscard]] std::string_view to_string(CpuIsa isa);
/// Throws ConfigError listing the known names.
[[nodiscard]] CpuIsa parse_cpu_isa(std::string_view name);

/// Those which CPUID and the operating system (saved register state) both allow here, ascending; never empty.
/// Asks the kernel to let this process use tiles where the processor has them: a process has to, once.
[[nodiscard]] std::vector<CpuIsa> supported_isas();

/// The processor's own name, "AMD EPYC 9R14" or "unknown".
[[nodiscard]] std::string cpu_name();

/// Whether a multiply-add takes many times as long where an operand is subnormal. Intel's processors leave
/// such to their microcode (150 cycles and more for one vector), others do not.
[[nodiscard]] bool slow_subnormals();

/// Whether memory gives more where lines are asked for in several places in turn than one after another.
/// Measured on an Intel server (up to 1.4 times); other processors keep the order that was measured there.
[[nodiscard]] bool reads_faster_in_streams();

/// Cores this process may use: affinity mask and cgroup CPU quota (rounded up), at least 1.
[[nodiscard]] int usable_cores();

/// Bytes of memory this process may still take: the machine's available memory, or less under a cgroup limit.
[[nodiscard]] long long available_memory_bytes();

/// Tells the core that it runs a loop that waits.
void cpu_relax();

}  // namespace octet
